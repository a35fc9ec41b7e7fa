"""funasr: speech recognition you can read, train and ship.

`AutoModel(model=...).generate(input=...)` is the way in; importing the package imports neither torch nor any model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funasr.utils.version import __version__

__all__ = ["AutoModel", "__version__"]

if TYPE_CHECKING:
    from funasr.auto.auto_model import AutoModel


def __getattr__(name: str) -> Any:
    if name == "AutoModel":
        from funasr.auto.auto_model import AutoModel

        return AutoModel
    raise AttributeError(f"module 'funasr' has no attribute '{name}'")
