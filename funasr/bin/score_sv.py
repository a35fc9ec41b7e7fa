"""Score speaker embeddings on trials: `python -m funasr.bin.score_sv --trials trials --embeddings out/embedding.npz`.

Cosine scores give the equal error rate and the lowest detection cost for targets in 1 and in 5 of 100 trials.  With
`--cohort`, embeddings of other people, the scores are normalised (AS-norm) as well.  `--output_dir` gets `scores`
(lines `ENROLL TEST score`) and result.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funasr.bin.command import user_errors
from funasr.metrics.verification import (
    Trial,
    adaptive_s_norm,
    cosine_scores,
    equal_error_rate,
    error_curve,
    min_dcf,
    read_trials,
    unit_vectors,
)
from funasr.utils.data_dir import read_lines, read_table
from funasr.utils.errors import DataError
from funasr.utils.io import write_text
from funasr.utils.option_types import int_range

P_TARGETS = (0.01, 0.05)
HEAD = ("scores", "trials", "targets", "EER (%)", *(f"minDCF({p:g})" for p in P_TARGETS))


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", required=True, help="lines `1 ENROLL TEST` or `ENROLL TEST target`")
    parser.add_argument("--embeddings", required=True, nargs="+", help="what sv_inference wrote: .npz, or text")
    parser.add_argument("--cohort", nargs="+", default=[], help="embeddings of people who are in no trial")
    parser.add_argument("--cohort_utt2spk", help="take the mean of each speaker of the cohort")
    parser.add_argument("--top_n", type=int_range(2), default=300, help="nearest of the cohort that count")
    parser.add_argument("--name", help="of the set; default: the folder of --trials")
    parser.add_argument("--output_dir", type=Path)
    return parser


def read_embeddings(paths: Sequence[str]) -> dict[str, np.ndarray]:
    """Utterance -> embedding (dim,).

    Raises DataError for a file that is neither .npz (arrays `keys`, `embeddings`) nor text lines `ID [ 0.1 ... ]`.
    """
    found: dict[str, np.ndarray] = {}
    for path in paths:
        if not Path(path).is_file():
            raise DataError(f"{path} does not exist")
        found |= _from_npz(path) if Path(path).suffix == ".npz" else _from_text(path)
    sizes = {len(vector) for vector in found.values()}
    if len(sizes) != 1:
        raise DataError(f"{', '.join(paths)}: embeddings of sizes {sorted(sizes)}; they must be of one model")
    return found


def _from_npz(path: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(zip(stored["keys"].tolist(), stored["embeddings"]))
    except (KeyError, ValueError, OSError) as error:
        raise DataError(f"{path} holds no embeddings ({error}); sv_inference writes them") from None


def _from_text(path: str) -> dict[str, np.ndarray]:
    found = {}
    for number, line in read_lines(path):
        words = line.split()
        if not words:
            continue
        try:
            if words[1] != "[" or words[-1] != "]":
                raise ValueError
            found[words[0]] = np.array(words[2:-1], dtype=np.float64)
        except (IndexError, ValueError):
            raise DataError(f"{path}:{number}: a line reads 'ID [ 0.1 0.2 ... ]', not '{line[:60]}'") from None
    return found


def speaker_means(embeddings: dict[str, np.ndarray], utt2spk: dict[str, str] | None) -> np.ndarray:
    """Mean direction of each speaker (speakers, dim); without speakers the embeddings themselves."""
    names = list(embeddings)
    vectors = unit_vectors(np.stack([embeddings[name] for name in names]))
    if utt2spk is None:
        return vectors
    lost = [name for name in names if name not in utt2spk]
    if lost:
        raise DataError(f"--cohort_utt2spk has no speaker for {len(lost)} utterances, e.g. {', '.join(lost[:3])}")
    speakers, place = np.unique([utt2spk[name] for name in names], return_inverse=True)
    sums = np.zeros((len(speakers), vectors.shape[1]))
    np.add.at(sums, place, vectors)
    return sums


def table_row(title: str, trials: Sequence[Trial], scores: np.ndarray) -> tuple[list[str], dict[str, Any]]:
    """A row under `HEAD`, and the numbers in it."""
    curve = error_curve(scores, np.array([trial.target for trial in trials]))
    eer, costs = equal_error_rate(curve), {f"min_dcf_{p:g}": min_dcf(curve, p) for p in P_TARGETS}
    targets = sum(trial.target for trial in trials)
    cells = [title, str(len(trials)), str(targets), f"{100 * eer:.2f}", *(f"{cost:.3f}" for cost in costs.values())]
    return cells, {"scores": title, "trials": len(trials), "targets": targets, "eer": eer, **costs}


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = get_parser().parse_args(argv)
    trials = read_trials(args.trials)
    embeddings = read_embeddings(args.embeddings)
    try:
        scores = cosine_scores(embeddings, trials)
    except DataError as error:
        raise DataError(f"{args.trials}: {error}") from None
    systems = {"cosine": scores}
    if args.cohort:
        utt2spk = read_table(args.cohort_utt2spk) if args.cohort_utt2spk else None
        cohort = speaker_means(read_embeddings(args.cohort), utt2spk)
        systems["AS-norm"] = adaptive_s_norm(embeddings, trials, scores, cohort, args.top_n)
    rows, numbers = zip(*(table_row(title, trials, values) for title, values in systems.items()))
    for cells in (HEAD, *rows):
        print("\t".join(cells))
    if args.output_dir is not None:
        final = list(systems.values())[-1]
        lines = [f"{trial.enroll} {trial.test} {score:.6f}\n" for trial, score in zip(trials, final)]
        write_text(args.output_dir / "scores", "".join(lines))
        name = args.name or Path(args.trials).resolve().parent.name
        table = {"title": "Speaker verification", "head": HEAD, "rows": rows}
        result = {"name": name, "tables": [table], "systems": numbers}
        write_text(args.output_dir / "result.json", json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
