"""Same batches for any number of workers, ranks that share an epoch, resume in its middle, damage that is skipped."""

from __future__ import annotations

import logging
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import pytest
import torch
from tiny_corpus import FS, TOKENS, make_corpus, triplets

from funasr.datasets.chunk import ChunkIterFactory, parse_chunk_lengths
from funasr.datasets.collate import CommonCollateFn
from funasr.datasets.dataset import Damaged, SpeechTextDataset
from funasr.datasets.iterator import (
    MultipleIterFactory,
    SequenceIterFactory,
    build_streaming_iterator,
    share_iterations,
)
from funasr.datasets.lengths import lengths_from_headers, read_shapes
from funasr.datasets.preprocessor import CommonPreprocessor
from funasr.datasets.samplers import build_batches
from funasr.utils.errors import ConfigError, DataError


@pytest.fixture
def corpus(tmp_path):
    return make_corpus(tmp_path / "data")


def preprocessor(train=True):
    return CommonPreprocessor(train, "char", TOKENS, speed_perturb=[0.9, 1.0, 1.1], fs=FS)


def factory(corpus, batch_type="length", min_batch_size=1, **options):
    dataset = SpeechTextDataset(triplets(corpus), preprocessor(), fs=FS)
    plan = build_batches(
        batch_type, [corpus / "speech_shape"], batch_size=3, batch_bins=2500, min_batch_size=min_batch_size
    )
    return SequenceIterFactory(dataset, plan, CommonCollateFn(int_pad_value=-1), **{"shuffle": True, **options})


def flat(lists):
    return list(chain.from_iterable(lists))


def ids_of(iterator):
    return [uids for uids, _ in iterator]


def assert_same(first, second):
    first, second = list(first), list(second)
    assert ids_of(first) == ids_of(second)
    for (_, a), (_, b) in zip(first, second):
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("batch_type", ["length", "bucket"])
def test_same_batches_for_any_number_of_workers(corpus, batch_type):
    expected = list(factory(corpus, batch_type).build_iter(2))
    for workers in (1, 2):
        assert_same(factory(corpus, batch_type, num_workers=workers).build_iter(2), expected)


def test_epochs_differ_in_order_and_augmentation_and_repeat(corpus):
    made = factory(corpus)
    first, second = list(made.build_iter(1)), list(made.build_iter(2))
    assert ids_of(first) != ids_of(second)
    assert sorted(flat(ids_of(first))) == sorted(flat(ids_of(second)))
    assert_same(made.build_iter(1), first)
    lengths = [
        {uid: int(n) for uids, batch in epoch for uid, n in zip(uids, batch["speech_lengths"])}
        for epoch in (first, second)
    ]
    assert lengths[0] != lengths[1]


def test_global_generators_stay_where_they_were(corpus):
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    list(factory(corpus).build_iter(1))
    assert (torch.rand(1), np.random.rand(), random.random()) == expected


@pytest.mark.parametrize("window", [None, 3, 11])
@pytest.mark.parametrize("skip", [0, 1, 3])
def test_skip_gives_the_tail(corpus, window, skip):
    made = factory(corpus, num_iters_per_epoch=window)
    assert len(made.build_iter(2, skip)) == len(made) - skip
    assert_same(made.build_iter(2, skip), list(made.build_iter(2))[skip:])


def test_windows_are_cut_from_endless_passes(corpus):
    passes = factory(corpus)
    endless = flat(passes.global_batches(epoch) for epoch in range(1, 20))
    for window in (1, 4, len(passes), 13):
        made = factory(corpus, num_iters_per_epoch=window)
        assert flat(made.global_batches(epoch) for epoch in range(1, 5)) == endless[: 4 * window]


def test_ranks_share_each_batch(corpus):
    whole = ids_of(factory(corpus, min_batch_size=2).build_iter(1))
    ranks = [ids_of(factory(corpus, min_batch_size=2, rank=r, world_size=2).build_iter(1)) for r in range(2)]
    assert [len(r) for r in ranks] == [len(whole)] * 2
    for batch, first, second in zip(whole, *ranks):
        assert (first, second) == (batch[0::2], batch[1::2])


def test_batches_smaller_than_the_world_are_refused(corpus):
    with pytest.raises(DataError, match="min_batch_size=5"):
        factory(corpus, world_size=5)


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_utterances_are_skipped_named_and_counted(tmp_path, caplog, workers):
    corpus = make_corpus(tmp_path, broken=("u03", "u10"))
    (corpus / "u05.wav").unlink()
    text = (corpus / "text").read_text().replace("u07 abab\n", "u07\n")
    (corpus / "text").write_text(text)
    made = factory(corpus, "unsorted", num_workers=workers)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            seen = flat(ids_of(made.build_iter(1)))
    assert len(seen) == 8 and set(made.skipped) == {"u03", "u05", "u07", "u10"}
    assert "text" in made.skipped["u07"] and "does not exist" in made.skipped["u05"]
    assert sum(record.getMessage().startswith("u05 is skipped") for record in caplog.records) == 1
    assert "epoch 1: 4 of 12 utterances were damaged" in caplog.text


def test_a_batch_of_damage_keeps_its_place(tmp_path):
    corpus = make_corpus(tmp_path, broken=("u03",))
    dataset = SpeechTextDataset(triplets(corpus), preprocessor())
    made = SequenceIterFactory(dataset, [["u01"], ["u03"], ["u02"]], CommonCollateFn())
    assert ids_of(made.build_iter(1)) == [["u01"], [], ["u02"]]
    assert list(made.build_iter(1))[1] == ([], {})


def test_a_corpus_of_nothing_but_damage_is_an_error(tmp_path):
    corpus = make_corpus(tmp_path)
    for path in corpus.glob("*.wav"):
        path.unlink()
    with pytest.raises(DataError, match="does not exist"):
        list(factory(corpus).build_iter(1))


def test_resampling_is_told_once(tmp_path, caplog):
    corpus = make_corpus(tmp_path, fs=8000)
    made = factory(corpus, num_workers=2)
    with caplog.at_level(logging.WARNING):
        list(made.build_iter(1)), list(made.build_iter(2))
    assert sum("8000 Hz, not 16000 Hz" in record.getMessage() for record in caplog.records) == 1


def test_dataset_ids(corpus, caplog):
    lines = (corpus / "text").read_text().splitlines(keepends=True)
    (corpus / "text").write_text("".join(lines[2:]))
    with pytest.raises(DataError, match=r"text lacks 2 of the 12 ids of .*wav.scp: u00, u07"):
        SpeechTextDataset(triplets(corpus))
    dataset = SpeechTextDataset(triplets(corpus), preprocessor(), filter_input=True)
    assert len(dataset) == 10 and "u00" in caplog.text
    with pytest.raises(DataError, match="ids that are not in all of"):
        SequenceIterFactory(dataset, [["u00"]], CommonCollateFn())


def test_values_must_be_numbers(corpus):
    with pytest.raises(DataError, match=r"'text' of u01 \(.*text, type text\) is str"):
        SpeechTextDataset(triplets(corpus))["u01"]


def test_cache_is_raw_bounded_and_shared(corpus):
    dataset = SpeechTextDataset(triplets(corpus), preprocessor(), max_cache_size=4 * 100 * 6 + 60)
    dataset.fill_cache(["u00", "u01", "u02", "u11"], threads=2)
    dataset.set_epoch(1)
    before = [len(dataset["u02"][1]["speech"])]
    for path in corpus.glob("*.wav"):
        path.unlink()
    assert isinstance(dataset["u11"], Damaged)
    for epoch in range(2, 9):
        dataset.set_epoch(epoch)
        before.append(len(dataset["u02"][1]["speech"]))
    assert len(set(before)) > 1


def test_the_cache_leaves_the_threads_of_others_as_they_are(corpus):
    before = torch.get_num_threads()
    SpeechTextDataset(triplets(corpus), preprocessor(), max_cache_size=10**6).fill_cache(["u00", "u01"], threads=2)
    with ThreadPoolExecutor(1) as pool:
        assert [torch.get_num_threads(), pool.submit(torch.get_num_threads).result()] == [before, before]


def test_collate():
    collate = CommonCollateFn(int_pad_value=-1, not_sequence=["spk"])
    samples = [
        ("a", {"speech": np.ones(3, np.float32), "text": np.array([5]), "spk": np.array([1])}),
        ("b", {"speech": np.ones(2, np.float32), "text": np.array([6, 7]), "spk": np.array([2])}),
    ]
    uids, batch = collate(samples)
    assert uids == ["a", "b"] and "spk_lengths" not in batch
    assert batch["speech"].tolist() == [[1, 1, 1], [1, 1, 0]] and batch["text"].tolist() == [[5, -1], [6, 7]]
    assert batch["text_lengths"].tolist() == [1, 2] and batch["text_lengths"].dtype == torch.int64
    with pytest.raises(DataError, match="b has"):
        collate([samples[0], ("b", {"speech": np.ones(2, np.float32)})])


def test_streaming_keeps_the_order_of_the_file(corpus):
    order = [line.split()[0] for line in (corpus / "wav.scp").read_text().splitlines()]
    for workers in (0, 2):
        stream = build_streaming_iterator(
            triplets(corpus), CommonCollateFn(), preprocessor(False), batch_size=5, num_workers=workers
        )
        assert ids_of(stream) == [order[:5], order[5:10], order[10:]] and len(stream) == 3
    (corpus / "keys").write_text("u09 x\nu01 y\n")
    keys = build_streaming_iterator(triplets(corpus), CommonCollateFn(), preprocessor(False), corpus / "keys")
    assert ids_of(keys) == [["u09"], ["u01"]]
    (corpus / "keys").write_text("nobody\n")
    with pytest.raises(DataError, match="nobody"):
        build_streaming_iterator(triplets(corpus), CommonCollateFn(), key_file=corpus / "keys")


def test_splits_in_shuffled_order_with_resume(corpus):
    def build(uids):
        dataset = SpeechTextDataset(triplets(corpus), preprocessor())
        return lambda: SequenceIterFactory(dataset, [[uid] for uid in uids], CommonCollateFn(), shuffle=True)

    splits = [["u00", "u01", "u02"], ["u03", "u04"], ["u05", "u06", "u07", "u08"]]
    made = MultipleIterFactory([build(split) for split in splits], shuffle=True)
    epochs = [ids_of(made.build_iter(epoch)) for epoch in range(1, 6)]
    assert len(made) == 9 and all(sorted(flat(e)) == flat(splits) for e in epochs)
    assert len({tuple(map(tuple, e)) for e in epochs}) > 1
    for skip in (1, 4, 9):
        fresh = MultipleIterFactory([build(split) for split in splits], shuffle=True)
        assert ids_of(fresh.build_iter(3, skip)) == epochs[2][skip:]
    assert share_iterations(10, 3) == [4, 3, 3] and share_iterations(None, 2) == [None, None]
    with pytest.raises(ConfigError):
        share_iterations(2, 3)


class TestChunks:
    def made(self, corpus, **options):
        dataset = SpeechTextDataset(triplets(corpus)[:1])
        return ChunkIterFactory(
            dataset,
            dataset.ids,
            collate_fn=CommonCollateFn(),
            **{"batch_size": 4, "chunk_length": "200,300", "shuffle": True, **options},
        )

    def test_windows(self, corpus):
        made = self.made(corpus, chunk_length=400, shuffle=False, batch_size=1)
        counts: dict[str, int] = {}
        for uids, batch in made.build_iter(1):
            assert batch["speech"].shape[1] == 400
            for uid in uids:
                counts[uid] = counts.get(uid, 0) + 1
        expected = {f"u{i:02d}": (100 * (i + 1) - 400) // 200 + 1 for i in range(3, 12)}
        assert sum(expected.values()) - sum(counts.values()) < 4 and counts.keys() <= expected.keys()
        assert set(made.skipped) == {"u00", "u01", "u02"} and "below every chunk_length" in made.skipped["u00"]

    def test_same_for_any_workers_and_skip(self, corpus):
        expected = list(self.made(corpus, num_cache_chunks=8).build_iter(3))
        assert_same(self.made(corpus, num_cache_chunks=8, num_workers=2).build_iter(3), expected)
        assert_same(self.made(corpus, num_cache_chunks=8).build_iter(3, skip=2), expected[2:])

    def test_ranks_have_equal_counts(self, corpus):
        whole = ids_of(self.made(corpus).build_iter(1))
        ranks = [ids_of(self.made(corpus, rank=r, world_size=2).build_iter(1)) for r in range(2)]
        for batch, first, second in zip(whole, *ranks, strict=True):
            assert (first, second) == (batch[0::2], batch[1::2])

    def test_lengths(self):
        assert parse_chunk_lengths(500) == [500] and parse_chunk_lengths("300-302,5") == [300, 301, 302, 5]
        for wrong in ("", "a", "0", "5-3"):
            with pytest.raises(ConfigError):
                parse_chunk_lengths(wrong)


def test_lengths_from_headers(tmp_path, caplog):
    corpus = make_corpus(tmp_path, broken=("u04",))
    lengths = lengths_from_headers(corpus / "wav.scp", workers=2, cache=True)
    shapes = read_shapes(corpus / "speech_shape")
    assert lengths == {uid: n for uid, n in shapes.items() if uid != "u04"} and "u04 is left out" in caplog.text
    for path in corpus.glob("*.wav"):
        path.unlink()
    assert lengths_from_headers(corpus / "wav.scp", cache=True) == lengths
