"""Windows, speaker clustering and who-spoke-when, against lists recorded from released FunASR 1.4.16.

Not as the reference: k-means is seeded, so a second call equals the first (the recorded partitions are stable ones);
there is no UMAP/HDBSCAN for long recordings, which is random and gives windows that belong to nobody; and a number of
speakers given by the caller is honoured below 20 windows too.  `spectral/n80_4_oracle2` is left out, its input was not
recorded.
"""

from __future__ import annotations

import json
import sys
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funasr.decode.diarization import clustering
from funasr.decode.diarization.clustering import affinities, cluster_speakers, laplacian_eigenpairs, merge_by_cosine
from funasr.decode.diarization.segments import (
    SpeakerSegment,
    renumber,
    sentence_speakers,
    speaker_centers,
    speaker_segments,
    word_speakers,
)
from funasr.decode.diarization.windows import cut_windows, window_bounds
from funasr.utils.errors import DataError

RECORDED = Path(__file__).parents[1] / "parity" / "SpeakerClustering" / "expected"


def cases(kind: str) -> list[Any]:
    found = json.loads((RECORDED / "expected.json").read_text())["cases"]
    return [pytest.param(case, id=case["name"]) for case in found if case["name"].startswith(f"{kind}/")]


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(RECORDED / "tensors.npz") as stored:
        return dict(stored)


def voices(windows: int, speakers: int, noise: float = 1.0, dim: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of speakers who take turns of eight windows, and who they are."""
    rng = np.random.default_rng(windows)
    centers = rng.standard_normal((speakers, dim)) / np.sqrt(dim)
    turns = rng.permutation(np.arange(windows // 8 + 1) % speakers).repeat(8)[:windows]
    noises = rng.standard_normal((windows, dim)) / np.sqrt(dim)
    return (centers[turns] + noise * noises).astype(np.float32), renumber(turns)


@pytest.mark.parametrize("case", cases("cluster"))
def test_labels(arrays: dict[str, np.ndarray], case: dict[str, Any]) -> None:
    embeddings = arrays[case["arrays"]["X"]].astype(np.float32)
    before = embeddings.copy()
    labels = cluster_speakers(embeddings, case["kwargs"].get("oracle_num"))
    assert labels.tolist() == [int(label) for label in case["labels"]]
    np.testing.assert_array_equal(embeddings, before)
    np.random.default_rng().random()
    assert cluster_speakers(embeddings, case["kwargs"].get("oracle_num")).tolist() == labels.tolist()


@pytest.mark.parametrize("case", [c for c in cases("spectral") if c.id != "spectral/n80_4_oracle2"])
def test_affinities_and_eigenvalues(arrays: dict[str, np.ndarray], case: dict[str, Any]) -> None:
    embeddings = arrays[f"cluster/{case['name'].split('/')[1]}/X"]
    graph = affinities(embeddings)
    kept = arrays[case["arrays"]["affinity_row0"]]  # of one side, with the window itself
    assert clustering.kept_per_row(len(embeddings)) == case["kept_per_row"] == np.count_nonzero(kept)
    row = graph.toarray()[0]
    assert row[0] == 0 and abs(graph - graph.T).max() == 0
    mutual = np.isclose(row[1:], kept[1:], atol=1e-5) | np.isclose(row[1:], 0.5 * kept[1:], atol=1e-5)
    assert mutual[kept[1:] != 0].all()
    values, _ = laplacian_eigenpairs(graph, 16)
    np.testing.assert_allclose(values, arrays[case["arrays"]["eigenvalues"]][:16], atol=1e-4)
    assert clustering.count_speakers(values, 1, 15) == case["n_spk"]


@pytest.mark.parametrize("case", cases("merge"))
def test_merging(arrays: dict[str, np.ndarray], case: dict[str, Any]) -> None:
    given = np.array(case["labels_in"])
    assert merge_by_cosine(given, arrays[case["arrays"]["X"]], case["thr"]).tolist() == case["labels_out"]
    assert given.tolist() == case["labels_in"]


@pytest.mark.parametrize("case", cases("chunk"))
def test_windows(case: dict[str, Any]) -> None:
    times, samples = cut_windows(np.arange(case["n"], dtype=np.float32), case["start_s"])
    found = [[*span, window[0], window[-1], len(window)] for span, window in zip(times, samples)]
    np.testing.assert_allclose(found, case["chunks"], atol=1e-9)


def test_no_samples_no_windows() -> None:
    times, samples = cut_windows(np.zeros(0, np.float32))
    assert times.shape == (0, 2) and samples.shape == (0, 24000) and window_bounds(0).shape == (0, 2)
    assert speaker_segments(times, []) == [] and cluster_speakers(np.zeros((0, 8))).shape == (0,)
    assert speaker_centers(np.zeros((0, 8)), []).shape == (0, 8)


@pytest.mark.parametrize("case", cases("post"))
def test_segments_sentences_and_centers(arrays: dict[str, np.ndarray], case: dict[str, Any]) -> None:
    segments = speaker_segments(np.array(case["segments"]), case["labels"])
    assert [segment.speaker for segment in segments] == [speaker for *_, speaker in case["result"]]
    spans = [[segment.start_s, segment.end_s] for segment in segments]
    np.testing.assert_allclose(spans, [span for *span, _ in case["result"]], atol=1e-6)
    sentences = [(sentence["start"], sentence["end"]) for sentence in case["sentences"]]
    assert sentence_speakers(sentences, segments) == case["spk"]
    centers = speaker_centers(arrays[case["arrays"]["embeddings"]], case["labels"])
    np.testing.assert_allclose(centers, arrays[case["arrays"]["centers"]], atol=1e-6)


def test_a_word_belongs_to_whom_it_overlaps_most_or_who_is_nearest() -> None:
    segments = [SpeakerSegment(*entry) for entry in ((1.0, 2.0, 0), (2.0, 2.4, 1), (2.4, 3.0, 0), (5.0, 6.0, 2))]
    words = [(0, 500), (1900, 2050), (1900, 2200), (1800, 2500), (1700, 2700), (3100, 3200), (4500, 4900), (9000, 9100)]
    assert word_speakers(words, segments) == [0, 0, 1, 1, 0, 0, 2, 2]
    assert word_speakers([(5500, 5500)], segments) == [2]
    assert word_speakers(words[:2], []) == [0, 0]
    assert sentence_speakers([(3100, 3200)], segments) == [0]


def test_words_and_sentences_of_a_long_recording_are_looked_up_not_searched() -> None:
    segments = [SpeakerSegment(i, i + 1.0, i % 3) for i in range(20_000)]
    spans = [(1000 * i + 100, 1000 * i + 900) for i in range(20_000)]
    assert word_speakers(spans, segments) == sentence_speakers(spans, segments) == [i % 3 for i in range(20_000)]


@pytest.mark.parametrize("speakers", [1, 3, 6])
def test_sparse_decomposition_finds_what_the_dense_one_does(monkeypatch: pytest.MonkeyPatch, speakers: int) -> None:
    embeddings, truth = voices(600, speakers, noise=0.8)
    graph = affinities(embeddings)
    dense, _ = laplacian_eigenpairs(graph, 16)
    assert cluster_speakers(embeddings).tolist() == truth.tolist()
    monkeypatch.setattr(clustering, "DENSE_WINDOWS", 100)
    sparse, vectors = laplacian_eigenpairs(graph, 16)
    np.testing.assert_allclose(sparse, dense, atol=1e-3)
    assert vectors.shape == (600, 16)
    assert cluster_speakers(embeddings).tolist() == truth.tolist()


def test_long_recordings_need_no_full_matrix() -> None:
    """8,000 windows are 100 minutes; a full float32 matrix would be 256 MB."""
    embeddings, truth = voices(8000, 4, noise=0.6)
    tracemalloc.start()
    labels = cluster_speakers(embeddings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert labels.tolist() == truth.tolist()
    assert peak < 150e6


def test_bounds_of_the_number_of_speakers() -> None:
    embeddings, truth = voices(200, 4, noise=0.5)
    assert cluster_speakers(embeddings).tolist() == truth.tolist()
    assert set(cluster_speakers(embeddings, max_speakers=2)) <= {0, 1}
    assert set(cluster_speakers(embeddings, min_speakers=5)) == set(range(5))
    assert set(cluster_speakers(embeddings, num_speakers=7)) == set(range(7))
    assert set(cluster_speakers(embeddings, merge_threshold=0.05)) < set(truth)
    for options in ({"num_speakers": 0}, {"min_speakers": 0}, {"min_speakers": 3, "max_speakers": 2}):
        with pytest.raises(ValueError, match="speakers"):
            cluster_speakers(embeddings, **options)
    with pytest.raises(ValueError, match="merge_threshold"):
        cluster_speakers(embeddings, merge_threshold=0.0)


def test_few_windows_are_one_speaker_unless_the_caller_knows_better() -> None:
    embeddings, truth = voices(16, 2, noise=0.2)
    assert set(cluster_speakers(embeddings)) == {0}
    assert cluster_speakers(embeddings, num_speakers=2).tolist() == truth.tolist()
    assert cluster_speakers(embeddings[:1], num_speakers=3).tolist() == [0]


def test_bad_embeddings_are_refused() -> None:
    embeddings, _ = voices(40, 2)
    embeddings[7, 3] = np.nan
    with pytest.raises(DataError, match="window 7"):
        cluster_speakers(embeddings)
    with pytest.raises(DataError, match=r"\(40,\)"):
        cluster_speakers(embeddings[:, 0])
    embeddings[7] = 0.0  # digital silence
    assert len(cluster_speakers(embeddings)) == 40


def test_fewer_different_windows_than_speakers_are_asked_for() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(set(cluster_speakers(np.ones((10, 5)), num_speakers=3).tolist())) == 1
        same = np.repeat(np.eye(3, 8), 4, axis=0)
        assert cluster_speakers(same, num_speakers=5).tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_missing_scipy_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.cluster", None)
    with pytest.raises(ImportError, match=r"funasr\[speaker\]"):
        cluster_speakers(voices(40, 2)[0])


def test_renumbering() -> None:
    assert renumber([5, 2, 5, 9, 2]).tolist() == [0, 1, 0, 2, 1]
    assert renumber([]).tolist() == []
