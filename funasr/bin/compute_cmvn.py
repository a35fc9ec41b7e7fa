"""Mean and variance of a corpus's features -> `am.mvn`.

    python -m funasr.bin.compute_cmvn --wav_scp data/train/wav.scp --train_config conf/train.yaml --output am.mvn

The features are those of the configuration's own front end (stacked, if it stacks frames) without normalisation and
dither, so the file fits the model that will read it.  A `segments` file beside wav.scp is respected.  Sums are kept in
float64.  A damaged file is skipped and named.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from funasr.bin.command import user_errors
from funasr.datasets.data_types import open_reader
from funasr.frontends.cmvn import write_cmvn
from funasr.register import RegistryError, tables
from funasr.utils.config import check_keywords, deep_merge, parse_yaml, read_yaml
from funasr.utils.errors import ConfigError, DamagedUtteranceError, DataError
from funasr.utils.logging import setup_logging

logger = logging.getLogger(__name__)

BLOCK_UTTS = 32  # utterances between two messages from a worker
MAX_NAMED = 20  # damaged utterances named one by one in the log


class FeatureSums:
    """Frame count, sum and sum of squares of features, float64."""

    def __init__(self) -> None:
        self.frames = 0
        self.total: np.ndarray | float = 0.0
        self.squares: np.ndarray | float = 0.0

    def add(self, feats: np.ndarray) -> None:
        """Add features (frames, dim)."""
        feats = feats.astype(np.float64)
        self.frames += len(feats)
        self.total = self.total + feats.sum(axis=0)
        self.squares = self.squares + (feats**2).sum(axis=0)

    def merge(self, other: FeatureSums) -> None:
        """Add what another process has counted."""
        self.frames += other.frames
        self.total = self.total + other.total
        self.squares = self.squares + other.squares

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance, (dim,) each.  Raises DataError if nothing was counted."""
        if self.frames == 0:
            raise DataError("no utterance gave any features; see the damaged files named above")
        mean = np.asarray(self.total) / self.frames
        return mean, np.maximum(np.asarray(self.squares) / self.frames - mean**2, 0.0)


def build_frontend(name: str, conf: dict[str, Any]) -> torch.nn.Module:
    """The front end called `name`, deterministic and without normalisation, in eval mode."""
    try:
        cls = tables.frontend_classes[name]
    except RegistryError as error:
        raise ConfigError(str(error)) from None
    conf = {key: value for key, value in conf.items() if key != "cmvn_file"}
    check_keywords(cls, conf, "frontend_conf")
    return cls(**conf).eval()


def sum_block(
    ids: Sequence[str], wav_scp: str, frontend: Callable[[], torch.nn.Module]
) -> tuple[int, FeatureSums, dict[str, str]]:
    """(utterances read, their sums, damaged utterance -> reason) of one block; runs in a worker."""
    torch.set_num_threads(1)
    module: Any = frontend()
    reader = open_reader(wav_scp, "sound", fs=module.fs)
    sums, damaged = FeatureSums(), {}
    for uid in ids:
        try:
            samples = np.asarray(reader[uid], dtype=np.float32)
        except DamagedUtteranceError as error:
            damaged[uid] = str(error)
            continue
        mono = samples if samples.ndim == 1 else samples.mean(axis=1)
        with torch.no_grad():
            feats, lengths = module(torch.from_numpy(mono)[None], torch.tensor([len(mono)]))
        if lengths[0] == 0:
            damaged[uid] = f"{len(mono)} samples are too few for one frame"
        else:
            sums.add(feats[0, : lengths[0]].numpy())
    return len(ids), sums, damaged


def compute_cmvn(
    wav_scp: str, frontend: str, frontend_conf: dict[str, Any], nj: int = 1, scale: float = 1.0
) -> tuple[FeatureSums, dict[str, str]]:
    """Sums over the first fraction `scale` of a corpus, and its damaged utterances (id -> reason).

    Raises ConfigError for a wrong option and DataError for a wrong wav.scp.
    """
    if not 0 < scale <= 1:
        raise ConfigError(f"--scale must lie in (0, 1], not {scale}")
    make = partial(build_frontend, frontend, frontend_conf)
    fs = getattr(make(), "fs", None)  # a wrong option shows here, before any process starts
    ids = list(open_reader(wav_scp, "sound", fs=fs))
    ids = ids[: max(1, round(len(ids) * scale))]
    blocks = [ids[start : start + BLOCK_UTTS] for start in range(0, len(ids), BLOCK_UTTS)]
    work = partial(sum_block, wav_scp=wav_scp, frontend=make)
    sums = FeatureSums()
    damaged: dict[str, str] = {}
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=len(ids), unit="utt", desc="cmvn", disable=None))
        results: Iterable[tuple[int, FeatureSums, dict[str, str]]] = map(work, blocks)
        if nj > 1:
            spawn = multiprocessing.get_context("spawn")  # fork would copy torch's threads in an unknown state
            results = stack.enter_context(spawn.Pool(min(nj, len(blocks) or 1))).imap(work, blocks)
        for count, block_sums, block_damaged in results:
            bar.update(count)
            sums.merge(block_sums)
            damaged.update(block_damaged)
    return sums, damaged


def frontend_options(
    train_config: str | None, frontend: str | None, overrides: list[str]
) -> tuple[str, dict[str, Any]]:
    """Name and options of the front end: the training configuration under the command line's `key=value`."""
    config = read_yaml(train_config) if train_config else {}
    given: dict[str, Any] = {}
    for word in overrides:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"--frontend_conf takes key=value, not '{word}'")
        given[key] = parse_yaml(value, f"--frontend_conf {key}")
    name = frontend or config.get("frontend") or "wav_frontend"
    return name, deep_merge(config.get("frontend_conf") or {}, given)


def get_parser() -> argparse.ArgumentParser:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wav_scp", required=True, help="utterance id -> audio; `segments` beside it is respected")
    parser.add_argument("--output", required=True, help="the am.mvn file to write")
    parser.add_argument("--train_config", help="YAML with frontend and frontend_conf")
    parser.add_argument("--frontend", help="front end, if not the configuration's (default: wav_frontend)")
    parser.add_argument("--frontend_conf", action="append", default=[], metavar="KEY=VALUE", help="overrides; repeat")
    parser.add_argument("--nj", type=int, default=1, help="processes")
    parser.add_argument("--scale", type=float, default=1.0, help="use the first fraction of the corpus only")
    return parser


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = get_parser().parse_args(argv)
    setup_logging()
    name, conf = frontend_options(args.train_config, args.frontend, args.frontend_conf)
    sums, damaged = compute_cmvn(args.wav_scp, name, conf, args.nj, args.scale)
    for uid, reason in list(damaged.items())[:MAX_NAMED]:
        logger.warning("skipped %s: %s", uid, reason)
    if damaged:
        logger.warning("%d damaged utterances were left out", len(damaged))
    mean, variance = sums.moments()
    write_cmvn(Path(args.output), mean, variance)
    logger.info("wrote %s: %d dimensions from %d frames", args.output, len(mean), sums.frames)
    return 0


if __name__ == "__main__":
    sys.exit(main())
