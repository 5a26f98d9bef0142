"""What Python gives as texts: one, several, or the columns of a table, whichever library made them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from twil.bundle.bundle import Bundle
from twil.core.errors import DataError
from twil.data.tables.memory import DataFrame, describe, is_file, is_missing, iterate, no_column, plain
from twil.data.tables.rows import missing_column, named_columns
from twil.text.tokenizer import half_character

Text = str | tuple[str, str]

_PAIR = "a pair of texts (text, second text)"
_CURE = "replace it, or leave it out (items and rows are counted from 0)"
Texts: TypeAlias = Iterable[Text] | Mapping[str, Any] | DataFrame
"""Texts one after another, or columns of one length by their names."""


def column_texts(columns: Mapping[str, Any], names: Sequence[str | None]) -> Iterator[Text]:
    """Yield the texts of a column, or the pairs of two.

    Args:
        columns: As `find_columns` gives them.
        names: The column of the texts, see `named_columns`, and that of second ones.

    Raises:
        DataError: There is no such column, or a cell is no text.
    """
    found = [*map(str, columns)]
    try:
        wanted = named_columns(names, found)
    except DataError as error:
        raise DataError(f"{error} (text= names the column)") from None
    for name, option in zip(wanted, ("text", "text_pair"), strict=False):
        if name not in columns:
            raise DataError(f"{missing_column(str(name), found)} ({option}= names the column)")
    first, *second = (_cells(name, columns[name]) for name in wanted)
    return zip(first, second[0], strict=True) if second else first


def item_texts(given: object, *, pair: bool) -> Iterator[Text]:
    """Yield the texts, or pairs of them, of a list, an array, a series, a generator, ...; a str is one text.

    Raises:
        DataError: It is no such thing, or an item is not a text (or a pair).
    """
    items = iter([given]) if isinstance(given, str) else iterate(given)
    if items is None:
        raise _refusal(given)
    for row, item in enumerate(items):
        yield _pair(item, f"item {row}") if pair else _text(item, f"item {row}")


def check_texts(bundle: Bundle, names: Sequence[str | None], *, pair: bool) -> None:
    """Refuse one column of texts for a model of pairs, and two for another.

    Raises:
        DataError: It does not fit.
    """
    if pair != (len(names) == 2):
        wanted, cure = (
            ("pairs of texts", "name text_pair, the column of the second text (--text-pair)")
            if pair
            else ("single texts", "leave out text_pair, the column of a second text (--text-pair)")
        )
        raise DataError(f"the model {bundle.folder} takes {wanted}: {cure}")


def _cells(name: str, column: object) -> Iterator[str]:
    cells = iterate(column)
    if cells is None:
        raise no_column(name, column)
    for row, cell in enumerate(cells):
        yield _text(cell, f"row {row} of column '{name}'")


def _refusal(given: object) -> DataError:
    said = describe(given)
    if isinstance(given, set | frozenset):
        return DataError(f"{said} has no order, and results come in that of the texts: give a list")
    if is_file(given):
        return DataError(
            f"{said} may hold texts or a table: give the list of its lines where each is a text, or the path "
            "to twil predict or twil embed"
        )
    return DataError(
        f"{said} was given in place of texts: give a text (str), a list or an array of texts, or columns "
        "(a dict or a data frame)"
    )


def _text(cell: object, where: str, wanted: str = "a text (str)") -> str:
    text = cell if isinstance(cell, str) else plain(cell)
    if not isinstance(text, str):
        raise _no_text(text, where, wanted)
    if half := half_character(text):
        raise DataError(f"{where} holds {half}: {_CURE}")
    return str.__str__(text)  # of a kind of str, such as NumPy's or an enumeration's, the str itself


def _pair(item: object, where: str) -> tuple[str, str]:
    halves = plain(item)
    if not isinstance(halves, tuple | list) or len(halves) != 2:
        raise _no_text(halves, where, _PAIR)
    first, second = halves
    return (
        _text(first, f"the first text of {where}", _PAIR),
        _text(second, f"the second text of {where}", _PAIR),
    )


def _no_text(item: object, where: str, wanted: str) -> DataError:
    found = f"missing ({item!r})" if is_missing(item) else describe(item)
    return DataError(f"{where} is {found}, and this model takes {wanted}: {_CURE}")
