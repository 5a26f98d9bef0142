"""The figures of a run for TensorBoard, beside its own log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from twil.core.errors import require
from twil.train.loop import Evaluated, StepDone
from twil.train.runs import RunStarted

Event = TypeVar("Event")


def recorded(events: Iterable[Event], folder: Path | None) -> Iterator[Event]:
    """Pass the events of a run on, and write their figures into a folder of TensorBoard.

    Args:
        events: Of a run, or of several, each of which has a folder of its seed's name in there.
        folder: Made if it is not there; what it holds of steps after a resumed one is overridden. Of None
            the events are passed on alone.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    if folder is None:
        yield from events
        return
    require("tensorboard", purpose="--tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer = None
    own = folder
    try:
        for event in events:
            resumed = getattr(event, "resumed", None)
            if isinstance(event, RunStarted):
                own = folder / f"seed-{event.seed}"
            elif resumed is not None:  # the run begins
                if writer is not None:
                    writer.close()
                writer = SummaryWriter(str(own), purge_step=resumed + 1)
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
