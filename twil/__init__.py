"""Train, ship and run transformer text classifiers for social media.

The functions and classes here are twil's public interface: see `twil.api` for what they share.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from twil.core.version import __version__ as __version__

if TYPE_CHECKING:
    from twil.api import DistillResult as DistillResult
    from twil.api import FinetuneResult as FinetuneResult
    from twil.api import PretrainResult as PretrainResult
    from twil.api import compare as compare
    from twil.api import distill as distill
    from twil.api import embed as embed
    from twil.api import evaluate as evaluate
    from twil.api import export as export
    from twil.api import finetune as finetune
    from twil.api import models as models
    from twil.api import predict as predict
    from twil.api import pretrain as pretrain
    from twil.core.errors import TwilError as TwilError
    from twil.inference.embedder import Embedder as Embedder
    from twil.inference.predictor import Prediction as Prediction
    from twil.inference.predictor import Predictor as Predictor
    from twil.model.folder import load as load
    from twil.model.heads import register_head as register_head
    from twil.scores.metrics import register_metric as register_metric
    from twil.train.objectives.losses import register_loss as register_loss

_HOMES = {
    "DistillResult": "twil.api",
    "Embedder": "twil.inference.embedder",
    "FinetuneResult": "twil.api",
    "Prediction": "twil.inference.predictor",
    "Predictor": "twil.inference.predictor",
    "PretrainResult": "twil.api",
    "TwilError": "twil.core.errors",
    "compare": "twil.api",
    "distill": "twil.api",
    "embed": "twil.api",
    "evaluate": "twil.api",
    "export": "twil.api",
    "finetune": "twil.api",
    "load": "twil.model.folder",
    "models": "twil.api",
    "predict": "twil.api",
    "pretrain": "twil.api",
    "register_head": "twil.model.heads",
    "register_loss": "twil.train.objectives.losses",
    "register_metric": "twil.scores.metrics",
}
"""Where each name comes from, on first use: what serves has no torch, and `twil --help` waits for nothing."""

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'twil' has no attribute '{name}'")
    if name in ("load", "register_head", "register_loss"):
        from twil.core.errors import require

        require("torch", purpose=f"twil.{name}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
