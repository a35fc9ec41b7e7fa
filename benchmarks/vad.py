"""Voice activity detection of a 10-minute recording, beside released FunASR 1.4.16 on the same weights and audio.

    python benchmarks/vad.py --rival PYTHON

`PYTHON` is the interpreter of an environment with funasr 1.4.16. Weights have the sizes of the public 16 kHz model
(random, but for a last layer that follows the energy of the frame, so that there are segments). Prints one line of
JSON: for each type of --dtypes seconds (median over runs, taken in turns), how many times as fast as the other's
float32, and whether the segments are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from funasr import AutoModel
from funasr.frontends.cmvn import write_cmvn
from funasr.models.build import build
from funasr.utils.config import dump_yaml

FS = 16000
ENCODER = {
    "input_dim": 400,
    "input_affine_dim": 140,
    "fsmn_layers": 4,
    "linear_dim": 250,
    "proj_dim": 128,
    "lorder": 20,
    "rorder": 0,
    "lstride": 1,
    "rstride": 0,
    "output_affine_dim": 140,
    "output_dim": 248,
}
FRONTEND = {"fs": FS, "window": "hamming", "n_mels": 80, "frame_length": 25, "frame_shift": 10, "dither": 0.0}
OPTIONS: dict[str, Any] = {"max_end_silence_time": 800}

Run = tuple[float, list[list[int]]]  # seconds and segments

# Run by the other interpreter: one run for each line it reads.
RIVAL = """
import json, sys, time
import funasr, soundfile, torch
from funasr import AutoModel
if not funasr.__version__.startswith("1.4"):
    sys.exit(f"{sys.executable} has funasr {funasr.__version__}, not 1.4.16")
model = AutoModel(model=sys.argv[1], device="cpu", ncpu=int(sys.argv[3]), disable_update=True, disable_pbar=True)
wave = soundfile.read(sys.argv[2], dtype="float32")[0]
torch.set_num_threads(int(sys.argv[3]))
for line in sys.stdin:
    start = time.perf_counter()
    value = model.generate(input=wave, key="k", **json.loads(line))[0]["value"]
    print("RESULT " + json.dumps([time.perf_counter() - start, value]), flush=True)
"""


def make_wave(minutes: float) -> np.ndarray:
    """(samples,) float32: noise bursts of 1 to 6 s between pauses of 0.2 to 3 s of faint noise, always the same."""
    rng = np.random.default_rng(0)
    wave = 0.001 * rng.standard_normal(int(60 * minutes * FS))
    position = 0
    while position < len(wave):
        position += int(rng.uniform(0.2, 3.0) * FS)
        length = int(rng.uniform(1.0, 6.0) * FS)
        wave[position : position + length] *= 100
        position += length
    return wave.astype(np.float32)


def write_model(directory: Path) -> None:
    """A model directory with the configuration of the public model."""
    torch.manual_seed(0)
    write_cmvn(directory / "am.mvn", np.full(400, 16.0), np.full(400, 25.0))
    config = {
        "model": "FsmnVADStreaming",
        "model_conf": {"sample_rate": FS, "speech_noise_thres": 0.6},
        "encoder": "FSMN",
        "encoder_conf": ENCODER,
        "frontend": "WavFrontendOnline",
        "frontend_conf": {**FRONTEND, "lfr_m": 5, "lfr_n": 1},
    }
    (directory / "config.yaml").write_text(dump_yaml(config))
    files = {"init_param": "model.pt", "config": "config.yaml", "frontend_conf": {"cmvn_file": "am.mvn"}}
    described = {"framework": "pytorch", "task": "benchmark", "model": {"type": "funasr"}, "file_path_metas": files}
    (directory / "configuration.json").write_text(json.dumps(described))
    model = build(config, strict=False).model
    state = model.state_dict()
    follow_energy(state)
    torch.save(state, directory / "model.pt")


def follow_energy(state: dict[str, torch.Tensor]) -> None:
    """Lead the sum of the features through one channel of each layer to the silence unit."""
    for name, value in state.items():
        if "conv_left" in name:
            value[0] = 0.0
        elif name.endswith("weight"):
            value[0] = 0.0
            value[0, 0] = 1.0
        else:
            value[0] = 0.0
    state["encoder.in_linear1.linear.weight"][0] = 1.0 / 400
    # Unit 0 is silence: e^z0 must be beside the sum of 247 others about 0, and energy (>= 0 behind the ReLU) lowers it.
    state["encoder.out_linear2.linear.weight"][0, 0] = -30.0
    state["encoder.out_linear2.linear.bias"][0] = 10.0


class Rival:
    """Released FunASR in a process of its own, loaded once."""

    def __init__(self, python: str, model: Path, wav: Path, threads: int) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [os.path.abspath(python), "-c", RIVAL, str(model), str(wav), str(threads)]
        # In a directory without this package, which `python -c` would import instead of the installed one.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=model, env=environment
        )

    def run(self) -> Run:
        """Seconds and segments of one run."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(OPTIONS) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("RESULT "):
                seconds, value = json.loads(line.removeprefix("RESULT "))
                return seconds, value
        raise RuntimeError("the other interpreter ended without a result; does it have funasr 1.4.16?")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rival", help="Python interpreter with funasr 1.4.16")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtypes", nargs="+", default=["auto", "float32"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_model(directory)
        wav = directory / "audio.wav"
        soundfile.write(wav, make_wave(args.minutes), FS, subtype="PCM_16")
        wave = soundfile.read(wav, dtype="float32")[0]
        sides: dict[str, Callable[[], Run]] = {name: _ours(directory, wave, args.threads, name) for name in args.dtypes}
        rival = Rival(args.rival, directory, wav, args.threads) if args.rival else None
        if rival:
            sides["rival"] = rival.run
        rounds = [{name: run() for name, run in sides.items()} for _ in range(args.runs + 1)][1:]  # the first warms up
        if rival:
            rival.close()
    seconds = {name: statistics.median(each[name][0] for each in rounds) for name in sides}
    result: dict[str, Any] = {"minutes": args.minutes, "threads": args.threads, "runs": args.runs}
    for name in args.dtypes:
        segments = rounds[0][name][1]
        result |= {f"{name}_s": round(seconds[name], 4), f"{name}_segments": len(segments)}
        if rival:
            result[f"{name}_times_as_fast"] = round(seconds["rival"] / seconds[name], 2)
            result[f"{name}_same_segments"] = segments == rounds[0]["rival"][1]
    if rival:
        result["rival_s"] = round(seconds["rival"], 4)
    print(json.dumps(result))


def _ours(directory: Path, wave: np.ndarray, threads: int, dtype: str) -> Callable[[], Run]:
    detector = AutoModel(directory, device="cpu", threads=threads, dtype=dtype)

    def run() -> Run:
        start = time.perf_counter()
        results = detector.generate(wave, **OPTIONS)
        return time.perf_counter() - start, results[0]["value"]

    return run


if __name__ == "__main__":
    main()
