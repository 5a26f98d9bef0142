"""What the tests share."""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

import pytest
from commands import run as run  # a fixture
from tokenizers import Tokenizer

from twil.text.tokenizer import save_tokenizer
from twil.text.vocabulary import texts_of, train_vocabulary

REFERENCE = Path(os.environ.get("TWIL_REFERENCE_DATA") or Path(__file__).resolve().parents[2] / "shared")
"""Data of the original, which is no part of the repository."""
EXAMPLES = Path(str(resources.files("twil.examples")))

# Tiny models gain nothing from more threads, and waiting ones steal the time of what runs beside the tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Who is started in the background of a shell ignores Ctrl-C, and so would the processes of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

LONG = ("test_readme.py", "test_distributed.py", "test_ray.py", "test_search.py")
"""Files that take longest. They come first: one that came last would keep one process busy, and no other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, mark them, and skip what needs a device that is not there."""
    for item in items:
        if item.path.name in LONG:
            item.add_marker(pytest.mark.slow)
        if {"subprocess", "processes"} & vars(item.module).keys():  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.subprocess)
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


def pytest_collection_finish() -> None:
    """Look for garbage seldom, and not among what the imports made, which stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True, scope="session")
def _unsynced() -> Iterator[None]:
    """Do not wait for the disk: no test cuts the power, and some disks would take minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """Give the folder of reference data that lies beside a developer's checkout."""
    if not has_reference(REFERENCE):
        pytest.skip(f"there is no reference data of the original in {REFERENCE}")
    return REFERENCE


def has_reference(folder: Path) -> bool:
    """Tell whether a folder is that of the reference data, and not another of its name."""
    return all((folder / part).is_dir() for part in ("fixtures/base_like", "data"))


@pytest.fixture(scope="session")
def examples() -> Path:
    """Give the folder of the texts that come with twil."""
    return EXAMPLES


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a small tokenizer of the example texts."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    save_tokenizer(train_vocabulary(texts_of([EXAMPLES / "tweets_train.tsv"]), size=600).tokenizer, path)
    return path


@pytest.fixture
def tokenizer(tokenizer_file: Path) -> Tokenizer:
    """Give that tokenizer, loaded anew."""
    from twil.text.tokenizer import load_tokenizer

    return load_tokenizer(tokenizer_file)


CHANGES = ("cut", "emptied", "appended", "overwritten")


def change(file: Path, how: str) -> None:
    """Write to a file in place, in one of `CHANGES`, as who does not know that it is read.

    Either its size changes or its time, the latter by a second: clocks of file systems are coarse.
    """
    content, before = file.read_bytes(), file.stat().st_mtime_ns
    written = {
        "cut": content[: len(content) * 2 // 3],
        "emptied": b"",
        "appended": content + content.splitlines(keepends=True)[-1],
        "overwritten": content[::-1],
    }
    file.write_bytes(written[how])
    os.utime(file, ns=(before, before + 10**9 * (how == "overwritten")))


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Write (text, label) rows as a labelled TSV."""
    lines = [f"{number}\t{text}\t{label}" for number, (text, label) in enumerate(rows)]
    path.write_text("\n".join(["ID\tTEXT\tCLASS", *lines, ""]), encoding="utf-8")
    return path


def write_cells(path: Path, **columns: Sequence[str | float | None]) -> Path:
    """Write cells of any type as JSONL or Parquet, by the ending of the name."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), path)
    else:
        rows = (dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True))
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path
