"""The map-style dataset: utterance id -> sample, from the files named by `path,name,type` triplets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from funasr.datasets.data_types import Reader, Triplet, check_triplets, open_reader
from funasr.datasets.sound import SoundReader
from funasr.register import tables
from funasr.utils.errors import ConfigError, DamagedUtteranceError, DataError
from funasr.utils.threads import torch_threads

logger = logging.getLogger(__name__)

Preprocess = Callable[[str, dict[str, Any]], dict[str, Any]]
_FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Damaged:
    """Stands in for the sample of an utterance that cannot be used; the loader leaves it out and tells the reason."""

    uid: str
    reason: str


@tables.register("dataset_classes", "SpeechTextDataset", aliases=("small",))
class SpeechTextDataset:
    """Samples by utterance id; the first triplet says which ids there are.

    Args:
        triplets: (path, name, type) each; see `funasr.datasets.data_types`.
        preprocess: `(id, name -> value) -> name -> value`; afterwards every value must be numeric.
        fs: rate of sound in Hz; None: as in the files, which must then agree.
        float_dtype: type of all float values (training in bfloat16 casts on the device).
        max_cache_size: bytes of raw values (before preprocessing) to keep in memory. With worker processes the cache
            is filled by `fill_cache` before they start, since what a worker keeps is lost with it.
        allow_pipes: run commands in place of sound paths.
        filter_input: use the ids that all files share, instead of raising an error if one is missing.
        may_be_empty: names whose values may be empty; any other empty value makes an utterance a damaged one.

    Raises:
        ConfigError: a wrong triplet.  DataError: a file is missing, has an id twice, or lacks ids of the first.
    """

    def __init__(
        self,
        triplets: Sequence[Triplet],
        preprocess: Preprocess | None = None,
        fs: int | None = None,
        float_dtype: str = "float32",
        max_cache_size: int = 0,
        allow_pipes: bool = False,
        filter_input: bool = False,
        may_be_empty: Collection[str] = (),
    ) -> None:
        if float_dtype not in _FLOATS:
            raise ConfigError(f"float_dtype must be one of {', '.join(_FLOATS)}, not '{float_dtype}'")
        self.triplets = check_triplets(triplets)
        self.preprocess = preprocess
        self.float_dtype = np.dtype(float_dtype)
        self.max_cache_size = max_cache_size
        self.may_be_empty = frozenset(may_be_empty)
        self.readers: dict[str, Reader] = {
            name: open_reader(path, type_name, fs, allow_pipes) for path, name, type_name in self.triplets
        }
        self.ids: list[str] = self._common_ids(filter_input)
        self._cache: dict[str, dict[str, Any]] = {}
        self._cached_bytes = 0

    def _common_ids(self, filter_input: bool) -> list[str]:
        (first_path, first_name, _), *others = self.triplets
        ids = list(self.readers[first_name])
        for path, name, _ in others:
            reader = self.readers[name]
            missing = [uid for uid in ids if uid not in reader]
            if not missing:
                continue
            message = f"{path} lacks {len(missing)} of the {len(ids)} ids of {first_path}: {_some(missing)}"
            if not filter_input:
                raise DataError(f"{message}. Complete it, or keep only the ids in all files with filter_input.")
            logger.warning("%s; these are left out", message)
            left_out = set(missing)
            ids = [uid for uid in ids if uid not in left_out]
        if not ids:
            raise DataError(f"{first_path} and the files beside it share no utterance")
        return ids

    @property
    def names(self) -> tuple[str, ...]:
        """The data names, in the order of the triplets."""
        return tuple(name for _, name, _ in self.triplets)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __contains__(self, uid: object) -> bool:
        return all(uid in reader for reader in self.readers.values())

    def set_epoch(self, epoch: int) -> None:
        """Make the augmentation of the coming samples that of `epoch`."""
        set_epoch = getattr(self.preprocess, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)

    def __getitem__(self, uid: str) -> tuple[str, dict[str, np.ndarray]] | Damaged:
        """`(uid, name -> array)`, or `Damaged` with the reason if this utterance cannot be used."""
        try:
            values = self._raw(uid)
            if self.preprocess is not None:
                values = self.preprocess(uid, values)
            return uid, {name: self._numeric(uid, name, value) for name, value in values.items()}
        except (DamagedUtteranceError, OSError) as error:
            return Damaged(uid, str(error) or type(error).__name__)

    def _raw(self, uid: str) -> dict[str, Any]:
        """Values as the files hold them; the caller may change them."""
        if uid in self._cache:
            return {n: v.copy() if isinstance(v, np.ndarray) else v for n, v in self._cache[uid].items()}
        values: dict[str, Any] = {}
        for path, name, _ in self.triplets:
            try:
                values[name] = self.readers[name][uid]
            except KeyError:
                raise DataError(f"{path} has no id '{uid}'") from None
            except UnicodeDecodeError as error:
                raise DamagedUtteranceError(f"{path}: {error}") from None
        size = sum(value.nbytes if isinstance(value, np.ndarray) else len(value) for value in values.values())
        if self._cached_bytes + size <= self.max_cache_size:
            self._cache[uid] = values
            self._cached_bytes += size
            return self._raw(uid)
        return values

    def fill_cache(self, uids: Sequence[str], threads: int) -> None:
        """Read utterances until the cache is full, so that worker processes started later share it."""
        if self._cached_bytes >= self.max_cache_size:
            return
        room = [uid for uid in uids if uid not in self._cache]
        # One torch thread each, as in a worker process: the last bit of a resampled value depends on it.
        with torch_threads(1), ThreadPoolExecutor(max(1, threads)) as pool:
            for start in range(0, len(room), 256):
                before = len(self._cache)
                list(pool.map(self._try_raw, room[start : start + 256]))
                if len(self._cache) == before:
                    break

    def _try_raw(self, uid: str) -> None:
        with suppress(DamagedUtteranceError, OSError):  # found again, and named, when the utterance is asked for
            self._raw(uid)

    def _numeric(self, uid: str, name: str, value: Any) -> np.ndarray:
        array = np.asarray(value)
        if array.dtype.kind == "f":
            if not np.isfinite(array).all():
                raise DamagedUtteranceError(f"'{name}' holds NaN or infinity")
            array = array.astype(self.float_dtype, copy=False)
        elif array.dtype.kind in "iub":
            array = array.astype(np.int64, copy=False)
        else:
            path, type_name = next(((p, t) for p, n, t in self.triplets if n == name), ("preprocessing", "?"))
            raise DataError(
                f"'{name}' of {uid} ({path}, type {type_name}) is {type(value).__name__}, not numbers, after "
                "preprocessing; a text needs a preprocessor that turns it into token ids, or the type text_int"
            )
        if array.size == 0 and name not in self.may_be_empty:
            raise DamagedUtteranceError(f"'{name}' is empty")
        return array.reshape(1) if array.ndim == 0 else array

    def pop_notices(self) -> dict[tuple[int, int], str]:
        """(rate of the file, rate wanted) -> first file, of resampling not told before in this process."""
        notices: dict[tuple[int, int], str] = {}
        for reader in self.readers.values():
            if isinstance(reader, SoundReader):
                notices.update(reader.pop_notices())
        return notices


def _some(ids: Sequence[str], count: int = 5) -> str:
    return ", ".join(ids[:count]) + (", ..." if len(ids) > count else "")
