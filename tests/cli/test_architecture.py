"""The documentation of the house is drawn from the house."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_floors_and_rooms_are_those_of_the_contracts_and_of_the_packages() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))["drawn"]
    assert drawn(page) == page, "run python docs/draw_architecture.py"


def test_files_that_the_documentation_names_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## Where is")[2]
    named = [
        word for word in table.replace("`", " ").replace(",", " ").split() if word.endswith((".py", ".css"))
    ]
    assert len(named) > 10
    for name in named:
        assert (ROOT / "twil" / name).is_file() or (ROOT / name).is_file(), name
