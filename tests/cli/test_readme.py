"""What the README and the quick start tell to type works as it stands, and figures are measured ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from documents import PAGES, ROOT, follow, read


@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_what_the_page_shows_runs_as_it_stands(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    follow(page, tmp_path)


@pytest.mark.timeout(240)
def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    cells = json.loads(read("docs/tour.ipynb"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)  # they are the reader's own
    program = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine.html").is_file()


def test_the_readme_is_one_page() -> None:
    assert len(read("README.md").splitlines()) <= 150


@pytest.mark.parametrize("page", ["README.md", "README.es.md", "docs/benchmarks.md", "docs/serve.md"])
def test_figures_stand_in_the_page_of_results_that_is_named_beside_them(page: str) -> None:
    for part in re.split(r"\n\n|\n(?=[|-] )", read(page)):
        results = re.findall(r"\]\([./]*benchmarks/results/(\w+)\.md\)", part)
        if not results:
            continue
        pages = [read(f"benchmarks/results/{name}.md") for name in results]
        measured = {value for page in pages for value in figures(page)}
        claimed = figures(re.sub(r"--\S+ \S+", "", part))
        assert claimed <= measured, f"{page}: {claimed - measured} not in {results}"


def figures(text: str) -> set[float]:
    """Give the numbers with a fraction or with thousands."""
    numbers = re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?", text)
    return {float(number.replace(",", "")) for number in numbers if re.search(r"[.,]", number)}


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = re.findall(r"^    (python3 -m venv .*)$", read("README.md"), flags=re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("twil demo")
    assert commands[1].endswith("pytest")
    typed = [
        line for page in PAGES for line in re.findall(r"^    pip install .*$", read(page), flags=re.MULTILINE)
    ]
    assert all("-c constraints.txt" in line for line in [*commands, *typed])
