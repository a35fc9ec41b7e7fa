"""Samples of one batch -> padded tensors."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from funasr.utils.errors import DataError

Sample = tuple[str, dict[str, np.ndarray]]


class CommonCollateFn:
    """Pads every value along time and adds `<name>_lengths`.

    Args:
        float_pad_value, int_pad_value: what stands behind the end of shorter values. The default for integers is a
            visibly wrong value; a task gives its own (-1 where index 0 is the CTC blank, 0 for language models).
        not_sequence: names that get no `<name>_lengths`.
    """

    def __init__(
        self, float_pad_value: float = 0.0, int_pad_value: int = -32768, not_sequence: Collection[str] = ()
    ) -> None:
        self.float_pad_value = float_pad_value
        self.int_pad_value = int_pad_value
        self.not_sequence = frozenset(not_sequence)

    def __call__(self, samples: Sequence[Sample]) -> tuple[list[str], dict[str, Tensor]]:
        """Ids, and for each name a tensor (batch, longest, ...) and its int64 lengths (batch,).

        Raises DataError if samples differ in their names, or values in the dimensions behind time.
        """
        uids = [uid for uid, _ in samples]
        names = list(samples[0][1])
        for uid, values in samples:
            if values.keys() != samples[0][1].keys():
                raise DataError(f"{uid} has {sorted(values)}, but {uids[0]} has {sorted(names)}")
        batch: dict[str, Tensor] = {}
        for name in names:
            arrays = [values[name] for _, values in samples]
            batch[name] = self._pad(name, uids, arrays)
            if name not in self.not_sequence:
                batch[f"{name}_lengths"] = torch.tensor([len(array) for array in arrays], dtype=torch.int64)
        return uids, batch

    def _pad(self, name: str, uids: list[str], arrays: list[np.ndarray]) -> Tensor:
        if name.endswith("_lengths"):
            raise DataError(f"the data name '{name}' is reserved")
        first = arrays[0]
        for uid, array in zip(uids, arrays):
            if array.shape[1:] != first.shape[1:] or array.dtype.kind != first.dtype.kind:
                raise DataError(
                    f"'{name}' of {uid} is {array.dtype}{array.shape}, but of {uids[0]} {first.dtype}{first.shape}: "
                    "only the first dimension may differ"
                )
        value = self.float_pad_value if first.dtype.kind == "f" else self.int_pad_value
        longest = max(len(array) for array in arrays)
        padded = np.full((len(arrays), longest, *first.shape[1:]), value, dtype=first.dtype)
        for row, array in zip(padded, arrays):
            row[: len(array)] = array
        return torch.from_numpy(padded)
