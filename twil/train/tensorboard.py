"""The figures of a run for TensorBoard, beside its own log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from twil.core.errors import require
from twil.train.loop import Evaluated, StepDone
from twil.train.pretraining import PretrainingStarted

Event = TypeVar("Event")


def record(events: Iterable[Event], folder: Path) -> Iterator[Event]:
    """Pass the events of a run on, and write their figures into a folder of TensorBoard.

    Args:
        events: Of a run.
        folder: Made if it is not there; what it holds of steps after a resumed one is overridden.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    require("tensorboard", purpose="--tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer = None
    try:
        for event in events:
            if isinstance(event, PretrainingStarted):
                writer = SummaryWriter(str(folder), purge_step=event.resumed + 1)
            elif writer is not None and isinstance(event, StepDone | Evaluated):
                for name, value in _figures(event).items():
                    writer.add_scalar(name, value, event.step)
            yield event
    finally:
        if writer is not None:
            writer.close()


def _figures(event: StepDone | Evaluated) -> dict[str, float]:
    if isinstance(event, Evaluated):
        return {f"dev/{name}": value for name, value in event.metrics.items()}
    figures = {"loss": event.loss, "lr": event.lr, **event.metrics}
    return {f"train/{name}": value for name, value in figures.items()}
