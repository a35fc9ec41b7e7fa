"""How many speakers there are and which windows are whose: spectral clustering of speaker embeddings.

Every window keeps its most similar windows only.  The graph of these affinities falls apart into as many pieces as
there are speakers; the largest gap between the first eigenvalues of its Laplacian tells how many (von Luxburg, "A
Tutorial on Spectral Clustering", 2007), k-means on the eigenvectors which, and speakers whose mean embeddings are
alike are joined in the end.

Nothing of size (windows, windows) is held at once beyond 2048 windows: affinities are computed in blocks and kept
sparse.  All randomness is seeded, so a result depends on the embeddings alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funasr.decode.diarization.segments import renumber
from funasr.utils.errors import DataError

FEWEST_WINDOWS = 20  # below: one speaker, unless the caller knows better
DENSE_WINDOWS = 2048  # up to here the Laplacian is decomposed as a full matrix, 32 MiB
KEPT_SHARE = 0.022  # of the affinities of a window
KEPT_LEAST = 6
KEPT_MOST = 96  # bounds the graph of a 10-hour recording (48,000 windows) to about 100 MiB
BLOCK_VALUES = 1 << 20  # affinities computed at once: with their order 12 to 16 MiB
MERGE_THRESHOLD = 0.78
MAX_SPEAKERS = 15
SEED = 0
TRIALS = 10  # of k-means


def cluster_speakers(
    embeddings: np.ndarray,
    num_speakers: int | None = None,
    min_speakers: int = 1,
    max_speakers: int = MAX_SPEAKERS,
    merge_threshold: float = MERGE_THRESHOLD,
) -> np.ndarray:
    """A speaker for each window.

    Args:
        embeddings: (windows, dim).
        num_speakers: how many speakers there are, if known (`preset_spk_num`).
        min_speakers, max_speakers: bounds of the number if it is not.
        merge_threshold: speakers whose mean embeddings have at least this cosine are one; in (0, 1].

    Returns: (windows,) int64, numbered by first appearance.

    Raises:
        DataError: embeddings that are not (windows, dim) or not finite.
        ValueError: bounds that contradict each other.
        ImportError: scipy is not installed; says how to.
    """
    embeddings = _checked(embeddings)
    _check_bounds(num_speakers, min_speakers, max_speakers, merge_threshold)
    count = len(embeddings)
    wanted = min(num_speakers, count) if num_speakers is not None else None
    if count < FEWEST_WINDOWS:  # too few for a graph
        speakers = wanted or min(min_speakers, count)
        return renumber(_k_means(_unit(embeddings), speakers))
    if wanted is not None and count >= DENSE_WINDOWS:
        return renumber(_k_means(_unit(embeddings), wanted))
    most = min(wanted or max_speakers, count - 1)
    values, vectors = laplacian_eigenpairs(affinities(embeddings), most + 1)
    speakers = wanted or count_speakers(values, min(min_speakers, most), most)
    labels = _k_means(vectors[:, :speakers], speakers)
    if wanted is None:
        labels = merge_by_cosine(labels, embeddings, merge_threshold, min_speakers)
    return renumber(labels)


def affinities(embeddings: np.ndarray) -> Any:
    """Sparse symmetric cosine affinities: each window's largest ones, averaged with those of the other side.

    2.2 % of a row are kept, at least 6 and at most 96, the window itself included; the diagonal is 0 in the end.

    Returns: scipy.sparse.csr_array (windows, windows) float64.
    """
    _require_scipy()
    from scipy import sparse

    unit = _unit(embeddings)
    count = len(unit)
    kept = min(kept_per_row(count), KEPT_MOST, count)
    rows = max(1, BLOCK_VALUES // count)
    columns = np.empty((count, kept), dtype=np.int32)
    values = np.empty((count, kept), dtype=np.float64)
    for start in range(0, count, rows):
        block = unit[start : start + rows] @ unit.T
        best = np.argpartition(block, count - kept, axis=1)[:, count - kept :]
        columns[start : start + rows] = best
        values[start : start + rows] = np.take_along_axis(block, best, axis=1)
    values[columns == np.arange(count)[:, None]] = 0.0
    starts = np.arange(count + 1, dtype=np.int64) * kept
    graph = sparse.csr_array((values.ravel(), columns.ravel(), starts), shape=(count, count))
    graph = 0.5 * (graph + graph.T)
    graph.eliminate_zeros()
    return graph.tocsr()


def kept_per_row(count: int) -> int:
    """Affinities that a window keeps among `count` windows, itself included, before the upper bound."""
    share = KEPT_SHARE if count * KEPT_SHARE >= KEPT_LEAST else KEPT_LEAST / count
    return count - int((1.0 - share) * count)


def laplacian_eigenpairs(graph: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` smallest eigenvalues of the graph's Laplacian, ascending, and their eigenvectors.

    Args:
        graph: sparse affinities (windows, windows), diagonal 0; the degree of a window is the sum of their sizes.

    Returns: (count,) and (windows, count).
    """
    from scipy import linalg, sparse
    from scipy.sparse.linalg import eigsh

    size = graph.shape[0]
    degrees = np.asarray(abs(graph).sum(axis=1)).ravel()
    if size <= DENSE_WINDOWS:
        laplacian = np.diag(degrees) - graph.toarray()
        return linalg.eigh(laplacian, subset_by_index=[0, min(count, size) - 1], overwrite_a=True)
    # Lanczos finds the largest eigenvalues best, so the spectrum is turned round: it lies in [0, 2 max(degrees)].
    top = 2.0 * degrees.max()
    turned = (graph + sparse.diags_array(top - degrees)).tocsr()
    start = np.random.default_rng(SEED).standard_normal(size)
    values, vectors = eigsh(turned, k=count, which="LA", v0=start, ncv=max(4 * count, 64), tol=1e-6)
    order = np.argsort(-values)
    return top - values[order], vectors[:, order]


def count_speakers(eigenvalues: np.ndarray, least: int, most: int) -> int:
    """The number of speakers in [least, most] behind which the gap between ascending eigenvalues is largest."""
    gaps = np.diff(eigenvalues[: most + 1])
    return least + int(np.argmax(gaps[least - 1 : most]))


def merge_by_cosine(
    labels: np.ndarray, embeddings: np.ndarray, threshold: float = MERGE_THRESHOLD, min_speakers: int = 1
) -> np.ndarray:
    """Join the two speakers whose mean embeddings are most alike as long as their cosine reaches `threshold`.

    Args:
        labels: (windows,) 0, 1, ...; of two speakers joined the higher label is dropped, those above it move down.
        embeddings: (windows, dim).
        min_speakers: stop at this number.
    """
    labels = np.asarray(labels).copy()
    while (speakers := int(labels.max(initial=-1)) + 1) > max(1, min_speakers):
        sums = np.zeros((speakers, embeddings.shape[1]))
        np.add.at(sums, labels, embeddings)
        centers = _unit(sums)  # the cosine of sums is the cosine of means
        cosines = np.triu(centers @ centers.T, 1)
        low, high = np.unravel_index(np.argmax(cosines), cosines.shape)
        if cosines[low, high] < threshold:
            break
        labels[labels == high] = low
        labels[labels > high] -= 1
    return labels


def _k_means(points: np.ndarray, clusters: int) -> np.ndarray:
    """The best of `TRIALS` runs of k-means from k-means++ beginnings."""
    if clusters <= 1:
        return np.zeros(len(points), dtype=np.int64)
    vq = _require_scipy().vq
    random = np.random.default_rng(SEED)
    best, least = np.zeros(len(points), dtype=np.int64), np.inf
    for _ in range(TRIALS):
        try:
            with np.errstate(invalid="ignore"):
                begin, _ = vq.kmeans2(points, clusters, iter=1, minit="++", seed=random, missing="raise")
        except vq.ClusterError:  # not so many different points
            begin = points[random.choice(len(points), clusters, replace=False)]
        centers, _ = vq.kmeans(points, begin)
        labels, distances = vq.vq(points, centers)
        if (cost := float(np.square(distances).sum())) < least:
            best, least = labels.astype(np.int64), cost
    return best


def _require_scipy() -> Any:
    try:
        import scipy.cluster
    except ImportError as error:
        raise ImportError("speaker clustering needs scipy: pip install 'funasr[speaker]'") from error
    return scipy.cluster


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1; those of length 0 stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _checked(embeddings: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if embeddings.ndim != 2:
        raise DataError(f"speaker embeddings must be (windows, dim), not {embeddings.shape}")
    if not np.isfinite(embeddings).all():
        bad = int(np.flatnonzero(~np.isfinite(embeddings).all(axis=1))[0])
        raise DataError(f"the speaker embedding of window {bad} is not finite; windows this short must be left out")
    return embeddings


def _check_bounds(num_speakers: int | None, least: int, most: int, threshold: float) -> None:
    if num_speakers is not None and num_speakers < 1:
        raise ValueError(f"num_speakers must be at least 1, not {num_speakers}")
    if not 1 <= least <= most:
        raise ValueError(f"min_speakers {least} and max_speakers {most} must be 1 <= min_speakers <= max_speakers")
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"merge_threshold must be in (0, 1], not {threshold}")
