"""What Python gives as texts: one, several, or the columns of a table, whichever library made them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

import numpy as np

from twil.data.rows import distinct_names, missing_column, named_columns
from twil.errors import DataError
from twil.predict.bundle import Bundle
from twil.text.tokenizer import half_character

Text = str | tuple[str, str]

_PAIR = "a pair of texts (text, second text)"
_CURE = "replace it, or leave it out (items and rows are counted from 0)"
_BYTES = bytes | bytearray | memoryview  # they give numbers
_PANDAS_MISSING = ("NAType", "NaTType")  # by name: nothing imports pandas


class DataFrame(Protocol):
    """What pandas, polars and Arrow call a data frame, a table or a batch of records."""

    def __len__(self) -> int: ...

    def __getitem__(self, name: Any, /) -> Any: ...

    @property
    def columns(self) -> Any:
        """Its columns, or their names."""
        ...


Texts: TypeAlias = Iterable[Text] | Mapping[str, Any] | DataFrame
"""Texts one after another, or columns of one length by their names."""


def find_columns(given: object) -> dict[str, Any] | None:
    """Return columns by name, as they are and in their order; None where something else is given.

    Raises:
        DataError: Two columns have one name, one is no list or array, or they are not of one length.
    """
    if isinstance(given, Mapping):
        columns = dict(given)
    elif (names := _frame_names(given)) is not None:
        columns = {name: given[name] for name in distinct_names(names)}  # type: ignore[index]
    else:
        return None
    lengths = {name: _length(name, column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shortest, longest = (choose(lengths, key=lengths.__getitem__) for choose in (min, max))
        raise DataError(
            f"column '{shortest}' has {lengths[shortest]} cells, and column '{longest}' has "
            f"{lengths[longest]}: give columns of one length"
        )
    return columns


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
    items = iter([given]) if isinstance(given, str) else _iterator(given)
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


def _frame_names(given: Any) -> list[Any] | None:
    """Return the names of a data frame's columns, and None where there is no data frame."""
    # Asked of its type: a series has an attribute for each label of its rows, and a frame for each column.
    kind = type(given)
    if hasattr(kind, "__len__") and hasattr(kind, "__getitem__"):
        for names in ("column_names", "columns"):  # Arrow calls the columns themselves `columns`
            if hasattr(kind, names):
                return list(getattr(given, names))
    return None


def _length(name: str, column: object) -> int:
    if not isinstance(column, str | _BYTES | Mapping | set | frozenset):
        with suppress(TypeError):  # it has none
            return len(column)  # type: ignore[arg-type]
    raise _no_column(name, column)


def _no_column(name: str, column: object) -> DataError:
    cure = "give one text as it is, several in a list" if isinstance(column, str) else "give one"
    return DataError(
        f"column '{name}' is {_describe(column)}, and a column is a list or an array with a cell for each "
        f"row: {cure}"
    )


def _cells(name: str, column: object) -> Iterator[str]:
    cells = _iterator(column)
    if cells is None:
        raise _no_column(name, column)
    for row, cell in enumerate(cells):
        yield _text(cell, f"row {row} of column '{name}'")


def _iterator(given: object) -> Iterator[object] | None:
    """Go through what has an order and holds things; None where it does not."""
    unfit = isinstance(given, _BYTES | set | frozenset) or _is_file(given)
    if unfit or not isinstance(given, Iterable):
        return None
    try:
        return iter(given)
    except TypeError:  # an array of no dimension
        return None


def _is_file(given: object) -> bool:
    # A file has no length. A series has one, and an attribute for each label of its rows.
    return hasattr(given, "readline") and not isinstance(given, Sized)


def _refusal(given: object) -> DataError:
    said = _describe(given)
    if isinstance(given, set | frozenset):
        return DataError(f"{said} has no order, and results come in that of the texts: give a list")
    if _is_file(given):
        return DataError(
            f"{said} may hold texts or a table: give the list of its lines where each is a text, or the path "
            "to twil predict or twil embed"
        )
    return DataError(
        f"{said} was given in place of texts: give a text (str), a list or an array of texts, or columns "
        "(a dict or a data frame)"
    )


def _text(cell: object, where: str, wanted: str = "a text (str)") -> str:
    text = cell if isinstance(cell, str) else _plain(cell)
    if not isinstance(text, str):
        raise _no_text(text, where, wanted)
    if half := half_character(text):
        raise DataError(f"{where} holds {half}: {_CURE}")
    return str.__str__(text)  # of a kind of str, such as NumPy's or an enumeration's, the str itself


def _pair(item: object, where: str) -> tuple[str, str]:
    halves = _plain(item)
    if not isinstance(halves, tuple | list) or len(halves) != 2:
        raise _no_text(halves, where, _PAIR)
    first, second = halves
    return (
        _text(first, f"the first text of {where}", _PAIR),
        _text(second, f"the second text of {where}", _PAIR),
    )


def _no_text(item: object, where: str, wanted: str) -> DataError:
    found = f"missing ({item!r})" if _is_missing(item) else _describe(item)
    return DataError(f"{where} is {found}, and this model takes {wanted}: {_CURE}")


def _plain(item: Any) -> object:
    """Return what an Arrow scalar or an array stands for; anything else as it is."""
    if isinstance(item, np.ndarray):
        return item.tolist()
    if not hasattr(item, "as_py"):
        return item
    try:
        return item.as_py()
    except UnicodeDecodeError as error:
        return error.object  # its bytes, as it is no text


def _is_missing(cell: object) -> bool:
    if isinstance(cell, float | np.floating):
        return bool(np.isnan(cell))
    return cell is None or type(cell).__name__ in _PANDAS_MISSING


def _describe(thing: object) -> str:
    name, shown = type(thing).__name__, " ".join(repr(thing).split())
    article = "an" if name[0].lower() in "aeiou" else "a"
    return f"{article} {name} ({shown if len(shown) <= 60 else shown[:60] + '…'})"
