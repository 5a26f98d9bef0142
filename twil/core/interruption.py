"""Interrupted runs: where their state lies, and what may be done beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twil.core.errors import ConfigError, TwilError


def check_state(root: Path, own: Sequence[re.Pattern[str]]) -> None:
    """Refuse a folder of state in which something else lies.

    Args:
        root: The folder; it need not exist.
        own: What the names in it look like.

    Raises:
        TwilError: It names what else lies there. Links are never followed, and pipes not waited for.
    """
    if root.is_symlink():
        raise TwilError(f"{root} is where the run keeps its state, and it is a link: remove it first")
    if root.exists() and not root.is_dir():
        raise TwilError(f"{root} is where the run keeps its state, and it is a file: choose another output")
    if root.is_dir():
        names = sorted(entry.name for entry in root.iterdir())
        foreign = [name for name in names if not any(form.fullmatch(name) for form in own)]
        if foreign:
            raise TwilError(
                f"{root} is where the run keeps its state, and something else lies there "
                f"({', '.join(foreign[:3])}): choose another output"
            )
        for entry in map(root.joinpath, names):
            if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
                raise TwilError(f"{entry} is a link or a pipe, and a run's state has none: remove it first")


def check_vacant_state(root: Path, own: Sequence[re.Pattern[str]], *, resume: bool, overwrite: bool) -> None:
    """Refuse to start where an interrupted run lies, unless it is continued or given up.

    Raises:
        ConfigError: It does.
        TwilError: Something else lies there.
    """
    check_state(root, own)
    if root.exists() and not resume and not overwrite:
        raise ConfigError(
            f"an interrupted run lies in {root}: continue it with --resume, or start anew with --force"
        )


def check_same_settings(root: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to continue a run with other settings than it had.

    Raises:
        ConfigError: It names what differs.
    """
    changed = sorted(key for key in now.keys() | then.keys() if then.get(key) != now.get(key))
    if changed:
        raise ConfigError(
            f"the run in {root} had other settings ({', '.join(changed)}): "
            "give the same ones, or start anew with --force"
        )
