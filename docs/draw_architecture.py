"""Write floors and rooms into docs/architecture.md, from the import contracts and the rooms themselves.

python docs/draw_architecture.py
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("architecture.md")


def main() -> None:
    """Write both between their marks."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(drawn(page), encoding="utf-8")


def drawn(page: str) -> str:
    """Put floors and rooms as they are between the marks of a page."""
    for mark, text in (("floors", draw_floors()), ("rooms", list_rooms())):
        between = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
        page = between.sub(lambda found, text=text: f"{found[1]}\n{text}\n{found[2]}", page)
    return page


def draw_floors() -> str:
    """Draw the floors, the highest first: an import points down."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers, serving = project["tool"]["importlinter"]["contracts"]
    without_torch = set(serving["source_modules"])

    def starred(room: re.Match[str]) -> str:
        return room[0] if room[0] in without_torch else f"{room[0]} *"

    floors = [re.sub(r"[\w.]+", starred, floor.replace(":", " ")) for floor in layers["layers"]]
    width = max(map(len, floors)) + 4
    lines = [f"+{'-' * width}+"]
    for floor in floors:
        lines += [f"|{floor:^{width}}|", f"+{'-' * width}+"]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def list_rooms() -> str:
    """List the rooms with what their first lines say and how many files they have."""
    places = [ROOT / "twil", ROOT / "cli", ROOT / "export"]
    rooms = sorted(file.parent for place in places for file in place.rglob("__init__.py"))
    lines = ["| room | what for | what may be changed there | files |", "| --- | --- | --- | --- |"]
    for room in rooms:
        if room == ROOT / "twil":
            continue
        said = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) or ""
        what, _, change = said.partition("\n\n")
        files = sum(1 for file in room.glob("*.py")) - 1
        name = f"`{room.relative_to(ROOT).as_posix()}/`"
        lines.append(f"| {name} | {what} | {change.replace(chr(10), ' ')} | {files} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
