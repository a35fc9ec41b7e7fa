"""`--multiple_iterator`: a training corpus in splits gives each epoch the same utterances as in one piece."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from funasr.bin.split_scps import split_scps
from funasr.tasks.asr import ASRTask
from funasr.tasks.iterators import build_iter_factory
from funasr.train.distributed import Distributed
from funasr.utils.errors import ConfigError, DataError

SPLITS = 4


@pytest.fixture(scope="module")
def splits(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/{wav.scp,text} and a shape file, each as a directory of splits."""
    directory = tmp_path_factory.mktemp("splits")
    ids = [line.split()[0] for line in (corpus / "train" / "text").read_text().splitlines()]
    (directory / "speech_shape").write_text("".join(f"{uid} {100 + index}\n" for index, uid in enumerate(ids)))
    tables = [corpus / "train" / "wav.scp", corpus / "train" / "text", directory / "speech_shape"]
    split_scps(tables, directory / "parts", SPLITS)
    return directory / "parts"


TRAIN = "--train_data_path_and_name_and_type"
LONE = Distributed()


def with_data(options: list[str], *data: str) -> list[str]:
    """The options with other training data."""
    pairs = [pair for pair in zip(options[::2], options[1::2], strict=True) if pair[0] != TRAIN]
    return [word for pair in pairs for word in pair] + [word for path in data for word in (TRAIN, path)]


def parsed(options: list[str], *more: str) -> argparse.Namespace:
    args = ASRTask.get_parser().parse_args([*options, *more])
    ASRTask.resolve_choices(args)
    return args


def in_splits(options: list[str], splits: Path) -> list[str]:
    data = with_data(options, f"{splits}/wav.scp,speech,sound", f"{splits}/text,text,text")
    return [*data, "--multiple_iterator", "true"]


def batches(
    args: argparse.Namespace, epoch: int = 1, skip: int = 0, distributed: Distributed = LONE
) -> list[list[str]]:
    factory = build_iter_factory(ASRTask, args, distributed, train=True)
    return [ids for ids, _ in factory.build_iter(epoch, skip)]


def test_an_epoch_has_the_utterances_of_all_splits(options: list[str], splits: Path) -> None:
    args = parsed(in_splits(options, splits), "--batch_type", "sorted", "--train_shape_file", f"{splits}/speech_shape")
    whole = [uid for batch in batches(parsed(options)) for uid in batch]
    first, second = batches(args, epoch=1), batches(args, epoch=2)
    for found in (first, second):
        assert sorted(uid for batch in found for uid in batch) == sorted(whole)
    assert first != second and first == batches(args, epoch=1)
    assert batches(args, epoch=2, skip=5) == second[5:]
    assert len(build_iter_factory(ASRTask, args, LONE, train=True)) == len(first)  # type: ignore[arg-type]
    order = {uid: row for row, uid in enumerate(sorted(whole))}
    for batch in first:  # of one split each
        assert len({order[uid] * SPLITS // len(whole) for uid in batch}) == 1
    ranks = [batches(args, 1, 0, Distributed(rank=rank, world_size=2)) for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1]) and sorted(u for r in ranks for b in r for u in b) == sorted(whole)


def test_iterations_are_shared_and_validation_is_in_one_piece(options: list[str], splits: Path) -> None:
    args = parsed(in_splits(options, splits), "--num_iters_per_epoch", "6")
    assert len(batches(args)) == 6
    assert len(build_iter_factory(ASRTask, args, LONE, train=False)) == 1  # type: ignore[arg-type]


def test_what_does_not_fit_is_refused(options: list[str], splits: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="iterator_type sequence"):
        batches(parsed(in_splits(options, splits), "--iterator_type", "chunk"))
    with pytest.raises(DataError, match=r"has no file num_splits; make it with .*split_scps"):
        batches(parsed(options, "--multiple_iterator", "true"))
    split_scps([corpus / "train" / "text"], tmp_path, 2)
    words = with_data(options, f"{splits}/wav.scp,speech,sound", f"{tmp_path}/text,text,text")
    with pytest.raises(ConfigError, match=r"same number of splits: .*wav.scp has 4, .*text has 2"):
        batches(parsed(words, "--multiple_iterator", "true"))


def test_training_on_splits(options: list[str], splits: Path, tmp_path: Path) -> None:
    ASRTask.main(cmd=[*in_splits(options, splits), "--max_epoch", "1", "--output_dir", str(tmp_path)])
    assert (tmp_path / "model.pt").is_file()
