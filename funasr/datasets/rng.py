"""Random generators that depend on what is drawn for, never on which process draws."""

from __future__ import annotations

import hashlib

import numpy as np


def keyed_generator(*keys: int | str) -> np.random.Generator:
    """A generator seeded by `keys`, e.g. (seed, epoch, utterance id): the same in every process."""
    digest = hashlib.blake2b("\0".join(map(str, keys)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
