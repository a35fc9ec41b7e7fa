"""VAD, Paraformer-large, punctuation and speakers on one long recording, optionally against released FunASR.

    python benchmarks/pipeline.py --rival OTHER_ENV/bin/python

Random weights of the released sizes, the same model directories for both sides, each side in a process of its own
with the same number of threads.  Timed is one `generate` on the file, after one on its first 20 s.  Prints one line of
JSON: seconds, real-time factor, peak resident memory of the process, tokens found, and the ratios.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import paraformer
import punctuation
import soundfile
import speaker
import vad

START = """
import json, resource, sys, time, torch
from funasr import AutoModel
settings = json.load(open(sys.argv[2]))
parts = settings["parts"]
"""
OURS = """
model = AutoModel(sys.argv[1], device="cpu", threads=int(sys.argv[3]), dtype=settings["dtype"], **parts)
run = lambda path: model.generate(path, batch_size_s=300, pred_timestamp=True)
"""
RIVAL = """
parts |= {"disable_update": True, "disable_pbar": True}
model = AutoModel(model=sys.argv[1], device="cpu", ncpu=int(sys.argv[3]), **parts)
run = lambda path: model.generate(input=path, batch_size_s=300, pred_timestamp=True)
"""
TIMED = """
torch.set_num_threads(int(sys.argv[3]))
run(settings["warm_up"])
start = time.perf_counter()
result = run(settings["recording"])[0]
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
sentences = result.get("sentence_info") or []
print("RESULT " + json.dumps({
    "seconds": seconds, "peak_mib": round(peak), "tokens": len(result.get("timestamp") or []),
    "sentences": len(sentences), "characters": len(result["text"]),
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rival", metavar="PYTHON", help="interpreter of an environment with released FunASR")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--blocks", type=int, default=50, help="encoder blocks; fewer to try this script")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], help="of the recogniser, on our side")
    parser.add_argument("--no_spk", action="store_true", help="leave the speakers out")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    line: dict[str, Any] = {"benchmark": "pipeline", "minutes": args.minutes, "threads": args.threads}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = write_all(folder, args)
        sides = dict.fromkeys(args.dtypes, (sys.executable, OURS))
        if args.rival:
            sides["rival"] = (args.rival, RIVAL)
        for side, (python, code) in sides.items():
            options = folder / "settings.json"
            options.write_text(json.dumps({**settings, "dtype": side}))
            script = START + code + TIMED
            line[side] = punctuation.run_once(python, script, folder / "asr", options, args.threads, name)
            line[side]["rtf"] = round(line[side]["seconds"] / (60 * args.minutes), 4)
    for dtype in args.dtypes if args.rival else ():
        line[dtype]["times_as_fast"] = round(line["rival"]["seconds"] / line[dtype]["seconds"], 2)
        line[dtype]["share_of_memory"] = round(line[dtype]["peak_mib"] / line["rival"]["peak_mib"], 2)
    print(json.dumps(line))


def write_all(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The model directories, the recording and its beginning; what the two sides need to know of them."""
    paraformer.write_model(folder / "asr", args.blocks)
    punctuation.write_model(folder / "punc", **punctuation.SIZES["ct-punc-c"])
    parts = {"vad_model": folder / "vad", "punc_model": folder / "punc"}
    (folder / "vad").mkdir()
    vad.write_model(folder / "vad")
    if not args.no_spk:
        (folder / "spk").mkdir()
        speaker.make_directory(folder / "spk", windows=8)
        parts["spk_model"] = folder / "spk"
    wave = vad.make_wave(args.minutes)
    for name, samples in (("recording", wave), ("warm_up", wave[: 20 * vad.FS])):
        soundfile.write(folder / f"{name}.wav", samples, vad.FS, subtype="PCM_16")
    return {
        "parts": {name: str(path) for name, path in parts.items()},
        "recording": str(folder / "recording.wav"),
        "warm_up": str(folder / "warm_up.wav"),
    }


if __name__ == "__main__":
    main()
