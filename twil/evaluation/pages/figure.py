"""Pictures: the formats that are written, colours, and files that appear whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twil.core.errors import ConfigError, require
from twil.core.storage import atomic_file

ENDINGS = (".png", ".svg", ".pdf")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito: told apart by every kind of sight."""


def check_ending(output: str | Path) -> None:
    """Refuse a file of a format that is not written.

    Raises:
        ConfigError: It names those that are.
    """
    if Path(output).suffix.lower() not in ENDINGS:
        raise ConfigError(f"{output} is no picture: give it one of the endings {', '.join(ENDINGS)}")


@contextmanager
def figure_file(output: str | Path, *, width: float, height: float, purpose: str) -> Iterator[Any]:
    """Give a figure of Matplotlib, and write it once the block has ended well.

    The same drawing gives the same file.

    Args:
        output: Its ending, one of `ENDINGS`, decides the format.
        width: In inches.
        height: In inches.
        purpose: What Matplotlib is needed for, completing "… needs the extra".

    Raises:
        ConfigError: The ending is another.
        MissingExtraError: Matplotlib is not installed.
    """
    output = Path(output)
    check_ending(output)
    require("matplotlib", purpose=purpose)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "twil", "font.size": 10, "axes.titlesize": 11}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with atomic_file(output) as temporary:
            stamp = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(output.suffix.lower())
            figure.savefig(temporary, format=output.suffix[1:].lower(), dpi=150, metadata=stamp)


def draw_legend(figure: Any, *, columns: int | None = None) -> None:
    """Put one legend of what is labelled in any drawing of a figure above them all.

    Args:
        figure: A figure of Matplotlib.
        columns: Of the legend; one for each label when left out.
    """
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= {label: line for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(), handles, loc="outside upper center", ncols=columns or len(handles), frameon=False
    )
