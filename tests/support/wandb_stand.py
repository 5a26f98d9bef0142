"""In place of the package wandb, which tests need neither installed nor on the network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Stand:
    """Writes down what it is given.

    Args:
        mode: ``online`` or ``offline``.
    """

    def __init__(self, mode: str) -> None:
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[dict[str, float], int]] = []
        self.exit_codes: list[int] = []
        self.mode = mode
        self.Settings = dict

    def setup(self) -> SimpleNamespace:
        return SimpleNamespace(settings=SimpleNamespace(mode=self.mode))

    def login(self, *, prompt: bool) -> bool:
        return prompt  # nobody is to be asked

    def init(self, **given: Any) -> SimpleNamespace:
        self.begun.append(given)
        return SimpleNamespace(
            id=given["id"] or "abc123",
            dir="wandb/offline-run-abc123/files",
            offline=True,
            summary={},
            log=lambda figures, step: self.logged.append((figures, step)),
            finish=lambda exit_code: self.exit_codes.append(exit_code),
        )
