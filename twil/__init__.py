"""Train, ship and run transformer text classifiers for social media."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twil.core.version import __version__ as __version__

if TYPE_CHECKING:
    from twil.inference.embedder import Embedder as Embedder
    from twil.inference.predictor import Predictor as Predictor
    from twil.model.folder import load as load

__all__ = ["Embedder", "Predictor", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: a serving machine has no torch, and `twil --help` waits for nothing.
    if name == "Predictor":
        from twil.inference.predictor import Predictor

        return Predictor
    if name == "Embedder":
        from twil.inference.embedder import Embedder

        return Embedder
    if name == "load":
        from twil.core.errors import require

        require("torch", purpose="twil.load")
        from twil.model.folder import load

        return load
    raise AttributeError(f"module 'twil' has no attribute '{name}'")
