"""Errors that a user can act on: each message names the file, line or option, and what to do."""

from __future__ import annotations


class ConfigError(ValueError):
    """A wrong option, configuration key or value; found before anything is loaded or trained."""


class DataError(ValueError):
    """A wrong corpus file (duplicate id, ids that do not match, ...); names the file and line."""


class DamagedUtteranceError(ValueError):
    """One utterance that cannot be used (missing or truncated file, empty transcript, ...).

    Loaders skip, count and name it; the rest goes on.
    """
