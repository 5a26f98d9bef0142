"""What a teacher says of texts, on disk: asked once, read in every epoch without being loaded.

A store is a folder of parts of `PART_ROWS` texts each, every one whole or not there, so that a store that
was interrupted goes on. A part holds plain arrays, which are mapped into memory:

- ``texts.npy`` uint8, the texts one behind the other as UTF-8, and ``text_ends.npy`` int64 ``(R,)``;
- ``token_ids.npy`` int32 ``(N,)``, the teacher's token ids, and ``token_ends.npy`` int64 ``(R,)``;
- ``answers.npy`` float16 ``(R, W)``: the vector of each text, or float32 logits of a classifier;
- ``token_vectors.npy`` float16 ``(N, D)``: the vector of each token, of an encoder.
"""

# R texts   N their tokens   W answer   D token vector

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.core.errors import ConfigError, ModelError
from twil.core.machine import allow_open_files
from twil.core.storage import atomic_folder, read_json, sha256, write_json

PART_ROWS = 4096
SETTINGS, CHECKS = "store.json", "part.json"
_ARRAYS = ("texts", "text_ends", "token_ids", "token_ends", "answers", "token_vectors")
_OTHER_FILES = 256
"""What a process has open besides: an array that is mapped into memory holds its file."""
_LEFT = ".part-*"  # by a write that was killed


@dataclass(frozen=True)
class Taught:
    """Some texts and what the teacher says of them.

    Attributes:
        texts: The texts.
        token_ids: The teacher's tokens of each.
        answers: ``(R, W)``, see the module.
        token_vectors: Of each text float16 ``(tokens, D)``; None of a classifier.
    """

    texts: list[str]
    token_ids: list[NDArray[np.int32]]
    answers: NDArray[Any]
    token_vectors: list[NDArray[np.float16]] | None


class TeacherStore:
    """A store that is read, or written part by part.

    Args:
        folder: Where it lies.
        rows: Texts of the whole store.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows
        files = allow_open_files(self.parts * len(_ARRAYS) + _OTHER_FILES)
        self._part = lru_cache(max(1, (files - _OTHER_FILES) // len(_ARRAYS)))(_map_part)

    def __len__(self) -> int:
        """Count the texts of the whole store."""
        return self.rows

    @property
    def parts(self) -> int:
        """Count the parts of the whole store."""
        return -(-self.rows // PART_ROWS)

    def part_rows(self, part: int) -> int:
        """Count the texts of a part."""
        return min(PART_ROWS, self.rows - part * PART_ROWS)

    def begin(self, settings: Mapping[str, Any], *, cure: str) -> None:
        """Make the folder, or take up one of the same settings.

        Args:
            settings: What decides the answers.
            cure: What to do where the store has others, besides giving those.

        Raises:
            ConfigError: It is a store of other texts or of another teacher, or no store.
            TwilError: It cannot be written.
        """
        path = self.folder / SETTINGS
        if path.is_file():
            then = read_json(path)
            changed = sorted(
                key for key in then.keys() | settings.keys() if then.get(key) != settings.get(key)
            )
            if changed:
                raise ConfigError(
                    f"the teacher's answers in {self.folder} are others ({', '.join(changed)} differ): give "
                    f"the same teacher and texts, or {cure}"
                )
            for left in self.folder.glob(_LEFT):
                shutil.rmtree(left)
            return
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise ConfigError(f"{self.folder} is no store of a teacher's answers: choose another place")
        with atomic_folder(
            self.folder
        ) as folder:  # one that is killed here leaves no folder that is no store
            write_json(folder / SETTINGS, dict(settings))

    def missing(self) -> list[int]:
        """List the parts that are not there."""
        return [part for part in range(self.parts) if not self._has(part)]

    def write(self, part: int, taught: Taught) -> None:
        """Write a part, whole or not at all."""
        texts = [text.encode() for text in taught.texts]
        arrays: dict[str, NDArray[Any]] = {
            "texts": np.frombuffer(b"".join(texts), np.uint8),
            "text_ends": np.cumsum([len(text) for text in texts], dtype=np.int64),
            "token_ids": np.concatenate(taught.token_ids).astype(np.int32),
            "token_ends": np.cumsum([len(row) for row in taught.token_ids], dtype=np.int64),
            "answers": taught.answers,
        }
        if taught.token_vectors is not None:
            arrays["token_vectors"] = np.concatenate(taught.token_vectors)
        with atomic_folder(self._at(part)) as folder:
            for name, array in arrays.items():
                whole = io.BytesIO()  # NumPy's own writing to a file may not say that the disk is full
                np.save(whole, array, allow_pickle=False)
                (folder / f"{name}.npy").write_bytes(whole.getbuffer())
            checks = {name: sha256(folder / f"{name}.npy") for name in arrays}
            write_json(folder / CHECKS, {"rows": len(texts), "sha256": checks})

    def check(self) -> None:
        """Check every part against its checksums.

        Raises:
            ModelError: One is not there, or not as it was written.
        """
        for part in range(self.parts):
            folder = self._at(part)
            told = read_json(folder / CHECKS) if self._has(part) else {}
            checks = told.get("sha256")
            if told.get("rows") != self.part_rows(part) or not isinstance(checks, dict):
                raise _damaged(folder)
            for name, expected in checks.items():
                file = folder / f"{name}.npy"
                if name not in _ARRAYS or not file.is_file() or sha256(file) != expected:
                    raise _damaged(folder)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Taught:
        """Read some texts, in the order asked for."""
        texts, token_ids, answers, vectors = [], [], [], []
        for row in rows:
            part, place = divmod(int(row), PART_ROWS)
            arrays = self._part(self._at(part))
            text, token = (_range(arrays[ends], place) for ends in ("text_ends", "token_ends"))
            texts.append(arrays["texts"][text].tobytes().decode())
            # A copy, which does not keep the file open.
            token_ids.append(np.array(arrays["token_ids"][token]))
            answers.append(np.array(arrays["answers"][place]))
            if "token_vectors" in arrays:
                vectors.append(arrays["token_vectors"][token])
        return Taught(texts, token_ids, np.stack(answers), vectors or None)

    def token_counts(self, vocabulary: int) -> NDArray[np.int64]:
        """Count how often the texts use each of the teacher's tokens, int64 ``(vocabulary,)``."""
        counts = np.zeros(vocabulary, dtype=np.int64)
        for part in range(self.parts):
            counts += np.bincount(self._part(self._at(part))["token_ids"], minlength=vocabulary)
        return counts

    def _has(self, part: int) -> bool:
        return (self._at(part) / CHECKS).is_file()

    def _at(self, part: int) -> Path:
        return self.folder / f"part-{part:06d}"


def _map_part(folder: Path) -> dict[str, NDArray[Any]]:
    names = json.loads((folder / CHECKS).read_text(encoding="utf-8"))["sha256"]
    try:
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    except ValueError as error:
        raise _damaged(folder) from error


def _damaged(folder: Path) -> ModelError:
    return ModelError(
        f"{folder} is not as it was written: remove that folder, and the teacher is asked its texts again"
    )


def _range(ends: NDArray[np.int64], place: int) -> slice:
    return slice(int(ends[place - 1]) if place else 0, int(ends[place]))
