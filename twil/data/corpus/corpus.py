"""A corpus for pretraining as it lies on disk: token ids of pairs and single texts, and their tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from twil.core.errors import DataError, ModelError
from twil.core.storage import sha256
from twil.data.corpus.token_store import TokenStore
from twil.text.tokenizer import load_tokenizer

__all__ = ["Corpus", "Part", "TokenStore", "open_corpus"]

FORMAT = "twil corpus 1"
MANIFEST_FILE = "corpus.json"
TOKENIZER_FILE = "tokenizer.json"
PARTS = ("train", "dev")
KINDS = {"pairs": 2, "texts": 1}
"""The kinds of rows, with the texts that each has."""


def part_file(part: str, kind: str) -> str:
    """Name the file of one kind of rows of one part."""
    return f"{part}-{kind}.arrow"


FILES = (MANIFEST_FILE, TOKENIZER_FILE, *(part_file(part, kind) for part in PARTS for kind in KINDS))
"""All that a corpus folder may hold."""


@dataclass(frozen=True)
class Part:
    """The rows to learn from, or those held out.

    Attributes:
        pairs: Pairs of texts, if there are any.
        texts: Single texts, if there are any.
    """

    pairs: TokenStore | None
    texts: TokenStore | None


@dataclass(frozen=True)
class Corpus:
    """An open corpus.

    Attributes:
        path: Its folder.
        tokenizer: What its texts were encoded with.
        max_length: The longest row in tokens, special tokens included.
        train: What is learned from.
        dev: What is held out, if anything is.
        sha256: Of `corpus.json`, which tells this corpus from any other.
        info: What `corpus.json` says.
    """

    path: Path
    tokenizer: Tokenizer
    max_length: int
    train: Part
    dev: Part | None
    sha256: str
    info: dict[str, Any]


def open_corpus(path: str | Path) -> Corpus:
    """Open a folder that `twil corpus` wrote, once every file in it is the one that was written.

    Raises:
        DataError: It is none, or is damaged.
        ModelError: Its tokenizer is not the one that it was encoded with.
    """
    path = Path(path)
    info = read_manifest(path)
    if sha256(path / TOKENIZER_FILE) != info["tokenizer_sha256"]:
        raise ModelError(
            f"{path / TOKENIZER_FILE} is not the tokenizer that the corpus was encoded with: "
            "put that one back, or make the corpus again with twil corpus"
        )
    parts = {part: _open_part(path, part, info["parts"].get(part, {})) for part in PARTS}
    train = parts["train"]
    if train is None:
        raise _damaged(path / MANIFEST_FILE, "it names no rows to learn from")
    return Corpus(
        path=path,
        tokenizer=load_tokenizer(path / TOKENIZER_FILE),
        max_length=info["max_length"],
        train=train,
        dev=parts["dev"],
        sha256=sha256(path / MANIFEST_FILE),
        info=info,
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """Read what `corpus.json` says, without going through the tokens.

    Raises:
        DataError: The folder is no corpus, or is damaged.
    """
    file = path / MANIFEST_FILE
    if not file.is_file():
        raise DataError("is no corpus (it holds no corpus.json): make one with twil corpus", file=path)
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or too deep
        raise _damaged(file, "it is not JSON") from error
    if not isinstance(info, dict) or "format" not in info:
        raise _damaged(file, "it does not describe a corpus")
    if info["format"] != FORMAT:
        raise DataError(
            f"the corpus is of the format '{info['format']}', and this twil reads '{FORMAT}': "
            "make it again with twil corpus",
            file=path,
        )
    expected = {"tokenizer_sha256": str, "max_length": int, "parts": dict}
    if not all(isinstance(info.get(key), type_) for key, type_ in expected.items()):
        raise _damaged(file, f"one of {', '.join(expected)} is missing")
    for part in PARTS:
        _check_counts(file, part, info["parts"].get(part, {}))
    if not (path / TOKENIZER_FILE).is_file():
        raise _damaged(path / TOKENIZER_FILE, "it is missing")
    return info


def _check_counts(file: Path, part: str, kinds: object) -> None:
    """Refuse a manifest that does not count and sign what a part holds."""
    expected = {"rows": int, "bytes": int, "sha256": str}
    counted = isinstance(kinds, dict) and all(
        isinstance(kinds[kind], dict)
        and all(type(kinds[kind].get(key)) is type_ for key, type_ in expected.items())
        for kind in KINDS
        if kind in kinds
    )
    if not counted:
        raise _damaged(file, f"it does not say what {part} holds ({', '.join(expected)})")


def _open_part(path: Path, part: str, counts: dict[str, Any]) -> Part | None:
    stores = {
        kind: _open_store(path / part_file(part, kind), kind, counts[kind]) if kind in counts else None
        for kind in KINDS
    }
    return Part(**stores) if any(stores.values()) else None


def _open_store(file: Path, kind: str, counts: dict[str, Any]) -> TokenStore:
    if not file.is_file():
        raise _damaged(file, "it is missing")
    if file.stat().st_size != counts["bytes"]:
        raise _damaged(file, f"it has {file.stat().st_size:,} bytes, and {counts['bytes']:,} were written")
    if sha256(file) != counts["sha256"]:
        raise _damaged(file, "it is not what was written (its SHA-256 differs)")
    store = TokenStore(file)
    if (len(store), store.columns) != (counts["rows"], KINDS[kind]):
        raise _damaged(file, f"it holds {len(store):,} rows, and {counts['rows']:,} were written")
    return store


def _damaged(file: Path, why: str) -> DataError:
    return DataError(f"the corpus is damaged, {why}: copy it again, or make it with twil corpus", file=file)
