"""Paraformer-large (50 + 16 blocks, width 512, 8404 tokens) on 16 x 10 s, optionally against released FunASR.

    python benchmarks/paraformer.py --rival OTHER_ENV/bin/python

Random weights, the same model directory for both sides, each in its own process with the same number of threads, in
turn.  Timed is `generate` on waveforms after a warm-up.  Prints one line of JSON: real-time factors (seconds of
computing per second of audio) per batch size and number type, the ratios, and in how many of the utterances ours gives
the rival's text.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from punctuation import run_once

UTTERANCES, SECONDS, FS = 16, 10, 16000

OURS = """
import json, os, sys, time, torch, numpy as np
from funasr import AutoModel
model = AutoModel(sys.argv[1], device="cpu", threads=int(sys.argv[3]), dtype=json.load(open(sys.argv[2]))["dtype"])
def run(waves, batch_size):
    return model.generate(waves, batch_size=batch_size)
"""
RIVAL = """
import json, os, sys, time, torch, numpy as np
from funasr import AutoModel
model = AutoModel(model=sys.argv[1], device="cpu", disable_update=True, disable_pbar=True, ncpu=int(sys.argv[3]))
def run(waves, batch_size):
    return model.generate(input=waves, batch_size=batch_size)
"""
TIMED = """
torch.set_num_threads(int(sys.argv[3]))
settings = json.load(open(sys.argv[2]))
waves = list(np.load(settings["waves"]))
run(waves[:2], 2)
start = time.perf_counter()
result = run(waves, settings["batch_size"])
seconds = time.perf_counter() - start
print("RESULT " + json.dumps({"seconds": seconds, "text": [item["text"] for item in result]}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rival", metavar="PYTHON", help="interpreter of an environment with released FunASR")
    parser.add_argument("--blocks", type=int, default=50, help="encoder blocks; fewer to try this script")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[8, 1])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    line: dict[str, Any] = {"benchmark": "paraformer", "blocks": args.blocks, "threads": args.threads}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        write_model(directory, args.blocks)
        waves = write_waves(Path(folder) / "waves.npy")
        for batch_size in args.batch_sizes:
            sides = dict.fromkeys(args.dtypes, (sys.executable, OURS))
            if args.rival:
                sides["rival"] = (args.rival, RIVAL)
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
            for _ in range(args.runs):  # in turn: noise hits all
                for name, (python, code) in sides.items():
                    settings = Path(folder) / "settings.json"
                    dtype = name if name != "rival" else "float32"
                    settings.write_text(json.dumps({"waves": str(waves), "batch_size": batch_size, "dtype": dtype}))
                    found[name].append(run_once(python, code + TIMED, directory, settings, args.threads, folder))
            line[f"batch_{batch_size}"] = summary(found)
    print(json.dumps(line))


def summary(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Real-time factor of each side, and ours against the rival."""
    rtf = {name: statistics.median(r["seconds"] for r in runs) / (UTTERANCES * SECONDS) for name, runs in found.items()}
    result: dict[str, Any] = {f"rtf_{name}": round(value, 4) for name, value in rtf.items()}
    for name in [name for name in rtf if name != "rival" and "rival" in rtf]:
        same = sum(a == b for a, b in zip(found[name][0]["text"], found["rival"][0]["text"]))
        result |= {f"times_as_fast_{name}": round(rtf["rival"] / rtf[name], 2), f"same_text_{name}": same}
    return result


def write_waves(path: Path) -> Path:
    """Speech-like noise, the same every time: (utterances, samples) float32."""
    import numpy as np

    rng = np.random.default_rng(0)
    envelope = np.repeat(rng.uniform(0.0, 0.2, (UTTERANCES, SECONDS * 10)), FS // 10, axis=1)
    np.save(path, (envelope * rng.standard_normal((UTTERANCES, SECONDS * FS))).astype(np.float32))
    return path


def write_model(directory: Path, blocks: int) -> None:
    """A model directory of the official large size with seeded random weights."""
    import torch
    import yaml

    from funasr.models.build import build

    directory.mkdir()
    tokens = ["<blank>", "<s>", "</s>", *(f"w{number}" for number in range(8400)), "<unk>"]
    (directory / "tokens.json").write_text(json.dumps(tokens))
    common = {"attention_heads": 4, "linear_units": 2048, "kernel_size": 11, "sanm_shfit": 0}
    config: dict[str, Any] = {
        "model": "Paraformer",
        "model_conf": {"ctc_weight": 0.0, "predictor_weight": 1.0, "predictor_bias": 1, "sampling_ratio": 0.75},
        "encoder": "SANMEncoder",
        "encoder_conf": {"output_size": 512, "num_blocks": blocks, "input_layer": "pe", **common},
        "decoder": "ParaformerSANMDecoder",
        "decoder_conf": {"num_blocks": 16, "att_layer_num": 16, **common},
        "predictor": "CifPredictorV2",
        "predictor_conf": {"idim": 512, "l_order": 1, "r_order": 1, "tail_threshold": 0.45},
        "frontend": "WavFrontend",
        "frontend_conf": {"fs": FS, "n_mels": 80, "lfr_m": 7, "lfr_n": 6, "dither": 0.0},
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>"},
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    torch.manual_seed(0)
    config["tokenizer_conf"] = {"token_list": str(directory / "tokens.json")}
    model = build(config).model
    torch.save(model.state_dict(), directory / "model.pt")


if __name__ == "__main__":
    main()
