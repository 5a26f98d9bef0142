"""The answers of a run that is not complete, kept beside its output, so that it can go on where it stopped.

Kept are answers, not rows of the output: a run that goes on reads the tables anew and computes only the
windows whose answers it lacks. What columns are repeated, in which format, and what bad rows lead to may
thus change in between; what an answer depends on may not. The texts of every window are held to those it
was answered for, so that no table can be another, be left out or come in another order unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Self

import numpy as np
from numpy.typing import NDArray

from twil.core.errors import ConfigError, ModelError, TwilError, first_line
from twil.core.interruption import check_same_settings, check_state, check_vacant_state
from twil.core.storage import atomic_file, remove_leftovers, sole_writer, write_json
from twil.core.version import __version__
from twil.inference.engine import Engine
from twil.inference.texts import Text

KEEP_SECONDS = 10.0
"""How much work a killed run loses; one that takes less leaves no trace."""
PART_ROWS = 1 << 16
"""Rows whose answers are held in memory at most, but for the last window."""
PART_BYTES = 1 << 25
"""The same of what these answers take, as vectors do."""

_SETTINGS = "run.json"
_PART = re.compile(r"rows-(\d{6})\.npz")
_OWN = (re.compile(re.escape(_SETTINGS)), _PART, re.compile(r"\.\d+-[0-9a-f]{8}\..*"))


class PartialRun:
    """Keeps the answers of one run in the folder ``OUTPUT.partial``, until it ends well.

    In its ``with`` block, in which all the work is done, no other run writes the same output, and whatever
    ends the work keeps what is done so far, where that took longer than `KEEP_SECONDS`.

    Args:
        target: The output.
        resume: An interrupted run may be continued.
        overwrite: An interrupted run may be given up.

    Attributes:
        root: The folder.

    Raises:
        ConfigError: On entry, an interrupted run lies there.
        TwilError: On entry, another process writes the output, or something else lies there.
    """

    def __init__(self, target: Path, *, resume: bool, overwrite: bool) -> None:
        self.root = partial_folder(target)
        self._taken = 0
        self._target = target
        self._resume, self._overwrite = resume, overwrite
        self._settings: dict[str, str] = {}
        self._pending: list[tuple[bytes, Answers]] = []
        self._parts = 0
        self._kept: Iterator[tuple[bytes, Answers]] = iter(())
        self._begin = self._last = perf_counter()
        self._alone = ExitStack()
        self._held = False  # the lock of the output

    def open(self, settings: Mapping[str, str], *, beside: Path | None = None) -> bool:
        """Take up what an interrupted run kept, or give it up; tell whether there was anything.

        To be called in the ``with`` block, before the output is begun.

        Args:
            settings: What its answers depend on besides the texts.
            beside: What is written together with the output.

        Raises:
            ConfigError: It had other settings.
            ModelError: It cannot be read.
        """
        self._settings = dict(settings)
        if beside and self._held:
            remove_leftovers(beside)  # of a run that was killed
        numbers = self._numbers() if self._resume else []
        if not numbers:
            self.clear()
            return False
        check_same_settings(self.root, self._read_settings(), self._settings)
        if numbers != list(range(1, len(numbers) + 1)):
            raise self._damaged("a part is missing")
        self._parts = len(numbers)
        self._kept = self._read(self._parts)
        return True

    def take(self, texts: Sequence[Text]) -> Answers | None:
        """Return the kept answers to the next window, or None where it has none.

        Raises:
            ConfigError: They are those to other texts.
            ModelError: They cannot be read.
        """
        window = next(self._kept, None)
        if window is None:
            return None
        digest, answers = window
        if digest != _digest(texts):
            raise ConfigError(
                f"the run in {self.root} read other texts behind its first {self._taken:,} rows: "
                "give the same files in the same order, or start anew with --force"
            )
        self._taken += len(texts)
        return answers

    def append(self, texts: Sequence[Text], answers: Answers) -> None:
        """Keep the answers to a window.

        Raises:
            TwilError: They cannot be written; what was kept before stays.
        """
        self._pending.append((_digest(texts), answers))
        rows = sum(answers.rows for _, answers in self._pending)
        size = sum(answers.values.nbytes for _, answers in self._pending)
        if perf_counter() - self._last >= KEEP_SECONDS or rows >= PART_ROWS or size >= PART_BYTES:
            self._write()

    def clear(self) -> None:
        """Remove what is kept.

        Raises:
            TwilError: Something else lies there.
        """
        check_state(self.root, _OWN)
        if self.root.is_dir():
            # From behind, and the settings behind the parts: what a kill leaves can be gone on with.
            for number in reversed(self._numbers()):
                self._at(number).unlink()
            for entry in self.root.iterdir():
                entry.unlink()
            self.root.rmdir()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._held = stack.enter_context(sole_writer(self._target))
            check_vacant_state(self.root, _OWN, resume=self._resume, overwrite=self._overwrite)
            self._alone = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._alone:
            if kind is None:
                self.clear()
            elif self.root.exists() or perf_counter() - self._begin >= KEEP_SECONDS:
                with suppress(TwilError):  # what ended the work is said
                    self._write()

    def _write(self) -> None:
        if not self._pending:
            return
        digests, windows = zip(*self._pending, strict=True)
        try:
            if not self._parts:
                self.root.mkdir(exist_ok=True)
                write_json(self.root / _SETTINGS, self._settings)
            with atomic_file(self._at(self._parts + 1)) as temporary:
                np.savez(
                    temporary,
                    digests=np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(digests), -1),
                    rows=np.array([answers.rows for answers in windows]),
                    lengths=np.array([len(answers.values) for answers in windows]),
                    values=np.concatenate([answers.values for answers in windows]),
                    truncated=np.concatenate([answers.truncated for answers in windows]),
                    empty=np.concatenate([answers.empty for answers in windows]),
                    repeated=np.concatenate([answers.repeated for answers in windows]),
                )
        except OSError as error:
            raise TwilError(
                f"no state can be kept in {self.root} ({first_line(error)}): make room there and continue "
                "with --resume; what was kept before stays"
            ) from error
        # In this order: an interrupt in between writes the same part again, or none.
        self._pending = []
        self._parts += 1
        self._last = perf_counter()

    def _read(self, parts: int) -> Iterator[tuple[bytes, Answers]]:
        """Yield the windows of all parts, of which one is in memory at a time."""
        for number in range(1, parts + 1):
            try:
                with np.load(self._at(number)) as part:
                    columns = [np.split(part["values"], np.cumsum(part["lengths"])[:-1])]
                    ends = np.cumsum(part["rows"])[:-1]
                    columns += [np.split(part[name], ends) for name in ("truncated", "empty", "repeated")]
                    windows = deque(zip(map(bytes, part["digests"]), *columns, strict=True))
            except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
                raise self._damaged(first_line(error)) from error
            while windows:
                digest, *arrays = windows.popleft()
                yield digest, Answers(*arrays)

    def _read_settings(self) -> Mapping[str, str]:
        try:
            settings = json.loads((self.root / _SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._damaged(first_line(error)) from error
        if not isinstance(settings, dict):
            raise self._damaged(f"{_SETTINGS} holds no object")
        return settings

    def _damaged(self, cause: str) -> ModelError:
        return ModelError(f"the state in {self.root} cannot be read ({cause}): start anew with --force")

    def _numbers(self) -> list[int]:
        names = (entry.name for entry in self.root.iterdir()) if self.root.is_dir() else ()
        return sorted(int(match[1]) for match in map(_PART.fullmatch, names) if match)

    def _at(self, number: int) -> Path:
        return self.root / f"rows-{number:06d}.npz"


def run_settings(engine: Engine, window_rows: int, **more: object) -> dict[str, str]:
    """Say what decides every digit of the answers to some texts.

    Args:
        engine: What computes them.
        window_rows: Rows of a window.
        more: What else is asked for, by the names of its options.
    """
    session = engine.session
    return {
        "the model": json.dumps(engine.bundle.manifest.files, sort_keys=True),
        "the provider": session.provider,
        "threads within an operator": str(session.threads),
        "--batch-tokens": str(engine.batch_tokens),
        "the rows of a window": str(window_rows),
        "the version of twil": __version__,
        "the version of ONNX Runtime": session.version,
        **{f"--{name}": str(value) for name, value in more.items()},
    }


def partial_folder(target: str | Path) -> Path:
    """Return where the state of a run with this output lies while it is not complete."""
    return Path(f"{Path(target)}.partial")


def _digest(texts: Sequence[Text]) -> bytes:
    """Return 16 bytes that stand for the texts of a window, wherever their table lies."""
    return hashlib.blake2b(repr(texts).encode(), digest_size=16).digest()


@dataclass(frozen=True)
class Answers:
    """What is known of some rows once they were computed.

    Attributes:
        values: The logits of a row, its vector, or a vector for each of its tokens, row after row; float32
            ``(rows or tokens, D)``.
        truncated: Whether the text was longer than the model reads; bool ``(rows,)``.
        empty: Whether the text held nothing to read; bool ``(rows,)``.
        repeated: Whether the row has the tokens of an earlier one, and its values; bool ``(rows,)``.
    """

    values: NDArray[np.float32]
    truncated: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    repeated: NDArray[np.bool_]

    @property
    def rows(self) -> int:
        """How many they are."""
        return len(self.truncated)
