"""The standard streams, such that one that is closed or full ends no work that does not need it."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


def open_streams() -> None:
    """Put something in place of standard streams that are closed, and have no failure of stderr end the work.

    What is opened later would otherwise become a standard stream, and take what is meant for it. To be called
    once, at the start.
    """
    # Each takes the lowest number that is free: its own. Nothing can be written to the second one, so that no
    # results are lost without a word.
    for name, mode, access in (
        ("stdin", "r", os.O_RDONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, access), mode, encoding="utf-8"))
    if os.name == "nt":  # a console there takes no bytes
        return
    # Nothing lies between both: a signal may come while a line is written, and its handler write another.
    sys.stderr = io.TextIOWrapper(
        Unfailing(sys.stderr.fileno(), "wb", closefd=False),
        encoding=sys.stderr.encoding,
        errors="backslashreplace",
        line_buffering=True,
        write_through=True,
    )


def drop_output() -> None:
    """Forget what standard output cannot take, where Python would try again at the end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Unfailing(io.FileIO):
    """A file that drops what cannot be written."""

    def write(self, data: Any) -> int:
        """Write all of some bytes, or drop what is left of them."""
        left = memoryview(data)
        while left:
            try:
                written = super().write(left)
            except OSError:
                break
            if not written:  # nothing may be waited for
                break
            left = left[written:]
        return len(data)
