"""Punctuation of a 10,000-word text: CTTransformer, optionally against released FunASR on the same weights.

    python benchmarks/punctuation.py
    python benchmarks/punctuation.py --rival OTHER_ENV/bin/python

The model has the size of a released one and random weights, with the output bias set so that sentences end about every
15 words.  Both sides read the same model directory, run in their own process with the same number of threads, one
after the other in turn, and time nothing but `generate` after a short warm-up.  Prints one line of JSON:
seconds (median), words per second, the ratio, and whether text and marks are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SIZES = {
    "small": {"vocab": 2000, "dim": 64, "heads": 4, "hidden": 128, "blocks": 2},  # for trying this script
    "ct-punc-c": {"vocab": 272727, "dim": 256, "heads": 8, "hidden": 1024, "blocks": 4},
    "ct-punc": {"vocab": 471067, "dim": 516, "heads": 12, "hidden": 2048, "blocks": 12},
}
PUNC_LIST = ["<unk>", "_", "，", "。", "？", "、"]
SHARE = [0.0, 0.85, 0.06, 0.05, 0.02, 0.02]  # of each mark
WORDS = 5000  # different ones in the text

OURS = """
import json, sys, time, torch
from funasr import AutoModel
model = AutoModel(sys.argv[1], device="cpu", threads=int(sys.argv[3]))
def run(text):
    return model.generate(text)[0]
"""
RIVAL = """
import json, sys, time, torch
from funasr import AutoModel
model = AutoModel(model=sys.argv[1], device="cpu", disable_update=True, disable_pbar=True, ncpu=int(sys.argv[3]))
def run(text):
    return model.generate(input=text)[0]
"""
TIMED = """
torch.set_num_threads(int(sys.argv[3]))
text = open(sys.argv[2], encoding="utf-8").read()
run(text[:500])
start = time.perf_counter()
result = run(text)
seconds = time.perf_counter() - start
marks = result["punc_array"].tolist()
print("RESULT " + json.dumps({"seconds": seconds, "text": result["text"], "marks": marks}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rival", metavar="PYTHON", help="interpreter of an environment with released FunASR")
    parser.add_argument("--size", choices=SIZES, default="ct-punc-c")
    parser.add_argument("--words", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        directory, text_file = Path(folder) / "model", Path(folder) / "words.text.utf8"
        write_model(directory, **SIZES[args.size])
        text_file.write_text(make_text(args.words, min(WORDS, SIZES[args.size]["vocab"] - 2)), encoding="utf-8")
        sides = {"ours": (sys.executable, OURS)}
        if args.rival:
            sides["rival"] = (args.rival, RIVAL)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for _ in range(args.runs):  # in turn: noise hits both
            for name, (python, code) in sides.items():
                found[name].append(run_once(python, code + TIMED, directory, text_file, args.threads, folder))

    seconds = {name: statistics.median(run["seconds"] for run in runs) for name, runs in found.items()}
    result: dict[str, Any] = {
        "benchmark": "punctuation",
        "size": args.size,
        "words": args.words,
        "threads": args.threads,
        "seconds": round(seconds["ours"], 3),
        "words_per_second": round(args.words / seconds["ours"]),
        "sentence_ends": sum(mark in (3, 4) for mark in found["ours"][0]["marks"]),
    }
    if args.rival:
        ours, rival = found["ours"][0], found["rival"][0]
        different = sum(a != b for a, b in zip(ours["marks"], rival["marks"]))
        result |= {
            "rival_seconds": round(seconds["rival"], 3),
            "times_as_fast": round(seconds["rival"] / seconds["ours"], 2),
            "same_text": ours["text"] == rival["text"],
            "different_marks": different + abs(len(ours["marks"]) - len(rival["marks"])),
        }
    print(json.dumps(result))


def run_once(python: str, code: str, directory: Path, text: Path, threads: int, folder: str) -> dict[str, Any]:
    """One process: its time and result.  It works in `folder`, so that neither side imports the other's package."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    if python == sys.executable:
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    else:
        environment.pop("PYTHONPATH", None)
    command = [python, "-c", code, str(directory), str(text), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise SystemExit(f"{python} failed:\n{done.stderr[-2000:]}")
    return json.loads(lines[-1].removeprefix("RESULT "))


def make_text(count: int, distinct: int) -> str:
    """`count` words, each of them in the token list."""
    return " ".join(f"w{number}" for number in random.Random(0).choices(range(distinct), k=count))


def write_model(directory: Path, vocab: int, dim: int, heads: int, hidden: int, blocks: int) -> None:
    """A model directory with random weights whose marks have about the shares SHARE."""
    import torch
    import yaml

    from funasr.models.build import build_model

    directory.mkdir()
    tokens = ["<unk>", *(f"w{number}" for number in range(vocab - 1))]
    (directory / "tokens.json").write_text(json.dumps(tokens), encoding="utf-8")
    config: dict[str, Any] = {
        "model": "CTTransformer",
        "model_conf": {"embed_unit": dim, "att_unit": dim, "punc_list": PUNC_LIST, "sentence_end_id": 3},
        "encoder": "SANMEncoder",
        "encoder_conf": {
            "input_size": dim,
            "output_size": dim,
            "attention_heads": heads,
            "linear_units": hidden,
            "num_blocks": blocks,
            "input_layer": "pe",
        },
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    torch.manual_seed(0)
    model: Any = build_model({**config, "vocab_size": vocab}, None, None, strict=False).eval()
    with torch.no_grad():
        ids = torch.randint(1, min(WORDS, vocab - 2), (64, 40))
        logits = model.logits(ids, torch.full((64,), 40)).flatten(0, 1)
        scale = logits.std(dim=0)
        model.decoder.weight.div_(scale[:, None])
        model.decoder.bias.zero_()
        logits = model.logits(ids, torch.full((64,), 40)).flatten(0, 1)
        wanted = torch.tensor(SHARE)
        bias = -logits.mean(dim=0)
        for _ in range(200):  # each mark gains where it is too rare
            share = torch.bincount((logits + bias).argmax(dim=-1), minlength=len(SHARE)) / len(logits)
            bias += 0.3 * ((wanted + 1e-3).log() - (share + 1e-3).log()).clamp(-1, 1)
        bias[0] = -1e4
        model.decoder.bias.copy_(bias)
    torch.save(model.state_dict(), directory / "model.pt")


if __name__ == "__main__":
    main()
