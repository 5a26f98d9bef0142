"""The lock of an output, held as another process would hold it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(output: Path) -> Iterator[None]:
    """Hold it; where another one does, that is an error."""
    # Of files that are opened apart, one lock keeps out the other, whichever process holds them.
    with output.with_name(f".{output.name}.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
