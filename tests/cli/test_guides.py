"""What the guides tell to type works as it stands, and links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from documents import PAGES, ROOT, blocks, commands, fenced, follow, read, typed

from twil.cli.main import COMMANDS, make_app

WAY = ("pretrain", "train", "compare", "export", "label", "migrate", "install")
"""The pages whose commands take up what those of the pages before have written."""

SPANISH = [page for page in PAGES if ".es." in page or ("/es/" in page and "index" not in page)]


@pytest.mark.timeout(240)
def test_the_guides_work_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("examples", "tests", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    for page in WAY:
        follow(f"docs/{page}.md", tmp_path)


def test_every_page_with_commands_and_their_output_is_followed() -> None:
    followed = {"README.md", "docs/quickstart.md", *(f"docs/{page}.md" for page in WAY)}
    shown = {page for page in PAGES if fenced(page, "console") or fenced(page, "sh")}
    assert shown - {page for page in PAGES if ".es." in page or "/es/" in page} <= followed


@pytest.mark.parametrize("page", SPANISH)
def test_a_spanish_guide_shows_what_the_english_one_shows(page: str) -> None:
    """Blocks that are those of an English page are run there."""
    ours, theirs = read(page), in_english(page)
    assert re.findall(r"^##+ ", ours, re.MULTILINE) == re.findall(r"^##+ ", theirs, re.MULTILINE)
    assert blocks(ours) == blocks(theirs)
    assert not (missing := typed(theirs) - typed(ours)), missing


def in_english(page: str) -> str:
    """Give the English text that a Spanish guide tells; of several pages each is a section."""
    if page == "docs/es/cluster.md":
        return f"#{read('docs/ray.md')}\n#{read('docs/spark.md')}"
    return read(page.replace("README.es", "README").replace("/es/", "/"))


def test_the_spanish_readme_has_the_figures_of_the_english_one() -> None:
    numbers, others = (
        sorted(re.findall(r"\d+[.,]\d+", read(page))) for page in ("README.es.md", "README.md")
    )
    assert numbers == others


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_the_options_that_a_page_gives_them(page: str) -> None:
    for line in commands(page):
        _, name, *arguments = shlex.split(line.rstrip("…. "))
        assert name in COMMANDS, line
        group = typer.main.get_command(make_app([name]))
        command = group.get_command(typer.Context(group), name)  # type: ignore[attr-defined]
        command.make_parser(typer.Context(command)).parse_args(arguments)


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "recipes/README.md"])
def test_links_lead_to_files_and_headings(page: str) -> None:
    for target, _, heading in re.findall(r"\]\(([^)#:]*)(#?)([^):]*)\)", read(page)):
        file = ROOT / Path(page).parent / target if target else ROOT / page
        if "cli.md" in target:  # which is written when the site is
            continue
        assert file.exists(), f"{page}: {target}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, f"{page}: {target}#{heading}"
