"""The transformers library itself: imported where it is needed, and kept from the user's terminal."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twil.core.errors import require


def import_transformers() -> Any:
    """Import the library.

    Raises:
        MissingExtraError: It is not installed.
    """
    return require("transformers", purpose="a model that twil did not build itself")


def check_installed() -> None:
    """Refuse to go on without the library, which takes seconds to import.

    Raises:
        MissingExtraError: It is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        import_transformers()


@contextmanager
def hushed() -> Iterator[Any]:
    """Give the library, which says nothing and draws no bars in the block; what matters is raised."""
    library = import_transformers()
    log = library.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        yield library
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
