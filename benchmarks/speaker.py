"""Speaker embeddings of windows and their clustering: this package, and another installation beside it if one is given.

    python benchmarks/speaker.py --rival /path/to/other/bin/python

Writes a model directory of CAM++ at full size with random weights, embeds the same windows of 1.5 s with both
packages (`AutoModel(...).generate(list of arrays)`), alternating so that noise hits both, and compares the embeddings:
a fast wrong result does not count.  Then clusters a long recording.  Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

WINDOW = 24000
WORKER = """
import json, sys, time
import numpy as np
import torch
from funasr import AutoModel
directory, threads, batch_size, ours = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "ours"
options = {} if ours else dict(disable_update=True, disable_pbar=True, ncpu=threads)
model = AutoModel(model=directory, device="cpu", **options)
torch.set_num_threads(threads)
windows = list(np.load(directory + "/windows.npy"))
model.generate(windows[:batch_size], batch_size=batch_size)
print("ready", flush=True)
for line in sys.stdin:
    started = time.perf_counter()
    results = model.generate(windows, batch_size=batch_size)
    seconds = time.perf_counter() - started
    embeddings = torch.cat([result["spk_embedding"] for result in results])
    np.save(directory + ("/ours.npy" if ours else "/rival.npy"), embeddings.numpy())
    print(json.dumps(seconds), flush=True)
"""


class Worker:
    """A process that embeds all windows each time it is asked and says how long that took."""

    def __init__(self, python: str, directory: Path, threads: int, batch_size: int, ours: bool) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [python, "-c", WORKER, str(directory), str(threads), str(batch_size), "ours" if ours else "rival"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=directory
        )
        self._answer("ready")

    def seconds(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return float(self._answer(None))

    def close(self) -> None:
        self.process.communicate()

    def _answer(self, wanted: str | None) -> str:
        """The next line that is an answer; a package may print lines of its own."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            text = line.strip()
            if text == wanted or (wanted is None and text.replace(".", "", 1).replace("e-", "", 1).isdigit()):
                return text
        raise RuntimeError(f"the worker ended with status {self.process.wait()}")


def make_directory(directory: Path, windows: int) -> None:
    """A model directory with random weights of full size, and windows of noise that differ from each other."""
    from funasr.models.campplus.model import CAMPPlus
    from funasr.models.speaker_embedding import speaker_features

    config = "model: CAMPPlus\nmodel_conf:\n  feat_dim: 80\n  embedding_size: 192\nfrontend: WavFrontend\n"
    (directory / "config.yaml").write_text(config + "frontend_conf:\n  fs: 16000\n")
    metas = {"init_param": "campplus.bin", "config": "config.yaml"}
    configuration = {
        "framework": "pytorch",
        "task": "speaker-verification",
        "model": {"type": "funasr"},
        "pipeline": {"type": "funasr-pipeline"},
        "model_name_in_hub": {"ms": "", "hf": ""},
        "file_path_metas": metas,
    }
    (directory / "configuration.json").write_text(json.dumps(configuration))
    generator = np.random.default_rng(0)
    tilt = np.cumsum(generator.standard_normal((windows, WINDOW)), axis=1)
    mixed = generator.standard_normal((windows, WINDOW)) + generator.uniform(0, 0.2, (windows, 1)) * tilt
    waves = (0.1 * mixed / np.abs(mixed).max(1, keepdims=True)).astype(np.float32)
    np.save(directory / "windows.npy", waves)

    torch.manual_seed(0)
    network = CAMPPlus(memory_efficient=False).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics of one batch; without any, embeddings would vanish
    with torch.no_grad():
        network.embed(speaker_features(torch.from_numpy(waves[:8])))
    torch.save(network.state_dict(), directory / "campplus.bin")


def embedding_times(args: argparse.Namespace) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make_directory(directory, args.windows)
        ours = Worker(sys.executable, directory, args.threads, args.batch_size, ours=True)
        rival = Worker(args.rival, directory, args.threads, 1, ours=False) if args.rival else None
        rounds = [(ours.seconds(), rival.seconds() if rival else 0.0) for _ in range(args.runs)]
        ours.close()
        ours_s, rival_s = (statistics.median(column) for column in zip(*rounds, strict=True))
        result: dict[str, object] = {"windows": args.windows, "threads": args.threads, "embed_s": round(ours_s, 3)}
        if rival:
            rival.close()
            found, wanted = np.load(directory / "ours.npy"), np.load(directory / "rival.npy")
            result |= {"rival_embed_s": round(rival_s, 3), "ratio": round(rival_s / ours_s, 2)}
            result |= {
                "max_abs_difference": float(np.abs(found - wanted).max()),
                "max_abs": float(np.abs(wanted).max()),
            }
        return result


def clustering_time(hours: float) -> dict[str, object]:
    """Clustering of a recording of `hours` with six speakers."""
    from funasr.decode.diarization.clustering import cluster_speakers

    windows = int(hours * 3600 / 0.75)
    generator = np.random.default_rng(0)
    turns = generator.integers(0, 6, windows // 8 + 1).repeat(8)[:windows]
    voices = generator.standard_normal((6, 192)).astype(np.float32)
    embeddings = voices[turns] + generator.standard_normal((windows, 192), dtype=np.float32)
    started = time.perf_counter()
    labels = cluster_speakers(embeddings)
    seconds = time.perf_counter() - started
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "cluster_hours": hours,
        "cluster_windows": windows,
        "cluster_s": round(seconds, 2),
        "cluster_speakers_found": int(labels.max()) + 1,
        "process_peak_mib": round(peak_mib),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rival", metavar="PYTHON", help="interpreter of an installation of FunASR to compare with")
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hours", type=float, default=1.0, help="length of the recording that is clustered")
    args = parser.parse_args()
    print(json.dumps(embedding_times(args) | clustering_time(args.hours)))


if __name__ == "__main__":
    main()
