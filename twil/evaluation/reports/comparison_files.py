"""A comparison written to a file, whose ending decides its form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twil.core.errors import ConfigError
from twil.core.markdown import markdown_table, plain
from twil.core.storage import atomic_file, reserved_files, write_json
from twil.data.tables.tables import TableWriter
from twil.evaluation.comparison import Comparison, Entry
from twil.evaluation.pages.document import write_page
from twil.evaluation.reports.comparison_page import make_comparison_page
from twil.evaluation.reports.comparison_tables import comparison_grids, explain_tests

_DOCUMENTS = (".html", ".md", ".json")
_TABLES = (".tsv", ".csv")


@contextmanager
def reserved_outputs(*paths: str | Path, overwrite: bool = False) -> Iterator[None]:
    """Hold the places of the files that a comparison is written to, from before it is made.

    Raises:
        ConfigError: The ending of a name is of no form.
        TwilError: One is taken or named twice, another process writes it, or it lies in no folder.
    """
    for path in paths:
        if Path(path).suffix.lower() not in (*_DOCUMENTS, *_TABLES):
            raise ConfigError(
                f"the ending of {path} does not tell what to write: "
                f"use one of {', '.join(_DOCUMENTS + _TABLES)}"
            )
    with reserved_files(*paths, overwrite=overwrite):
        yield


def write_comparison(comparison: Comparison, path: str | Path, *, texts: bool = True) -> None:
    """Write a comparison, whole or not at all.

    Args:
        comparison: What was found.
        path: A page, Markdown or JSON of it all, or a TSV or CSV with a row for each model.
        texts: Whether a page shows texts that models answer differently.
    """
    ending = Path(path).suffix.lower()
    if ending == ".html":
        write_page(path, make_comparison_page(comparison, texts=texts))
    elif ending == ".json":
        write_json(path, comparison.as_dict())
    elif ending == ".md":
        with atomic_file(path) as temporary:
            temporary.write_text(to_markdown(comparison), encoding="utf-8")
    else:
        _write_table(comparison, path)


def to_markdown(comparison: Comparison) -> str:
    """Lay a comparison out as Markdown."""
    parts = [f"# Comparison on {plain(comparison.file.name)}"]
    for title, columns, rows, figures in comparison_grids(comparison):
        parts += [
            # A title may open with the name of the file, which stays as it is.
            plain(title if title.startswith(str(comparison.file)) else f"{title[:1].upper()}{title[1:]}")
            + ":",
            "\n".join(markdown_table(columns, rows, figures=figures)),
        ]
    if comparison.pairs:
        parts.append(plain(explain_tests(comparison)))
    return "\n\n".join(parts) + "\n"


def _write_table(comparison: Comparison, path: str | Path) -> None:
    rows = [dict(_cells(entry)) for entry in comparison.entries]
    names = list(rows[0])
    with TableWriter(path, dict.fromkeys(names, str)) as table:  # as texts: a count keeps all its digits
        table.write({name: [str(row[name]) for row in rows] for name in names})


def _cells(entry: Entry) -> Iterator[tuple[str, str | float]]:
    yield "model", entry.name
    yield "path", str(entry.path)
    made = entry.architecture
    yield "type", made.type if made else ""
    for name in ("layers", "heads", "hidden", "parameters", "vocabulary"):
        yield name, getattr(made, name) if made else ""
    yield "precision", entry.precision
    yield "weights_bytes", entry.size
    for metric, interval in entry.intervals.items():
        yield metric, interval.value
        yield f"{metric}_low", interval.low
        yield f"{metric}_high", interval.high
    yield "training_seconds", "" if entry.trained is None else entry.trained
    yield "seconds", entry.seconds
    yield "texts_per_second", entry.texts_per_second
    yield "truncated", entry.truncated
    yield "runtime", entry.runtime
