"""The table of `docs/hub.md` names families, commands and tests that there are."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
from hub_models import FAMILIES

from twil.cli.main import COMMANDS

PAGE = (Path(__file__).parents[2] / "docs" / "hub.md").read_text(encoding="utf-8")
PARAMETRISED = {"family", "pretrained", "classifier"}
"""Fixtures that go through all families."""


def read_table() -> tuple[list[str], dict[str, list[str]]]:
    """Give the commands, and each family's cells."""
    lines = PAGE[PAGE.index("| family |") :].partition("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return head[1:], {row[0]: row[1:] for row in rows}


def read_tests() -> dict[str, str]:
    """Give the tests by the numbers of the cells."""
    return dict(re.findall(r"^- (\[\d+\]) `(test_\S+)`$", PAGE, flags=re.MULTILINE))


def test_its_rows_are_the_families_and_its_columns_are_commands() -> None:
    columns, rows = read_table()
    assert tuple(rows) == FAMILIES
    assert set(columns) <= set(COMMANDS)
    assert all(len(cells) == len(columns) for cells in rows.values())


def test_every_cell_is_a_test_and_every_test_a_cell() -> None:
    _, rows = read_table()
    assert {cell for cells in rows.values() for cell in cells} == set(read_tests())


@pytest.mark.parametrize("number", sorted(read_tests()))
def test_a_test_goes_through_the_families_that_name_it(number: str) -> None:
    pytest.importorskip("transformers", reason="the extra 'hub' is not installed")
    file, *names = read_tests()[number].split("::")
    function = importlib.import_module(file.removesuffix(".py"))
    for name in names:
        function = getattr(function, name)
    assert PARAMETRISED & set(inspect.signature(function).parameters)
    assert all(number in cells for cells in read_table()[1].values())
