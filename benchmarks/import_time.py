"""Time of `import funasr` in a fresh process, and whether torch came with it; one line of JSON.

With `--rival PYTHON` (an interpreter whose environment holds another release named funasr) the same is measured there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

PROGRAM = (
    "import sys, time; begin = time.perf_counter(); import funasr; seconds = time.perf_counter() - begin; "
    "print(seconds, 'torch' in sys.modules)"
)


def measure(python: str, directory: Path, repeats: int) -> tuple[float, bool]:
    """Median seconds of `import funasr`, and whether it imported torch."""
    runs = []
    for _ in range(repeats):
        done = subprocess.run([python, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=directory)
        runs.append(done.stdout.split()[-2:])
    return statistics.median(float(seconds) for seconds, _ in runs), runs[0][1] == "True"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rival", help="python of an environment with the other release")
    args = parser.parse_args()
    root = Path(__file__).resolve().parents[1]
    ours, with_torch = measure(sys.executable, root, repeats=7)
    line: dict[str, object] = {"benchmark": "import_time", "seconds": round(ours, 4), "imports_torch": with_torch}
    if args.rival:
        theirs, _ = measure(args.rival, root / "docs", repeats=3)
        line |= {"rival_seconds": round(theirs, 3), "ratio": round(theirs / ours, 1)}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
