"""The documents of the project, and what a reader would type of them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tuning import twil_command

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "README.md",
    "README.es.md",
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")),
]

OF_THE_MACHINE = {"benchmark", "doctor", "fill-mask", "inspect"}
"""Commands whose words differ from machine to machine."""


def read(page: str) -> str:
    """Give the text of a page, by its path in the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def fenced(page: str, language: str) -> list[str]:
    """Give the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", read(page), flags=re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[str]:
    """Give the fenced blocks of a text of any language, comments aside."""
    shown = re.findall(r"^```([^`\n]*\n.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(" +#.*", "", block) for block in shown]


def typed(text: str) -> set[str]:
    """Give the lines of a text that are set in, as commands without their output are, comments aside."""
    return {re.sub(" +#.*", "", line.strip()) for line in re.findall(r"^    .+$", text, flags=re.MULTILINE)}


def commands(page: str) -> list[str]:
    """Give every command of twil that a page tells to type, run by tests or not."""
    shown = [line for block in fenced(page, "sh") for line in block.splitlines()]
    shown += [
        line[2:] for block in fenced(page, "console") for line in block.splitlines() if line[:2] == "$ "
    ]
    shown += [line.strip() for line in re.findall(r"^    .+$", read(page), flags=re.MULTILINE)]
    return [
        command
        for line in shown
        if (command := line.partition("  #")[0].strip()).startswith("twil ") and command[5] != "-"
    ]


def follow(page: str, folder: Path) -> None:
    """Run what a page shows, in its order and in a folder, and hold what commands print to what it shows.

    Blocks ``console`` hold a command and what it prints, ``sh`` commands alone, ``python`` programs, and
    ``toml`` the file ``run.toml``.
    """
    for language, block in re.findall(
        r"^```(console|sh|python|toml)\n(.*?)^```", read(page), flags=re.MULTILINE | re.DOTALL
    ):
        if language == "toml":
            (folder / "run.toml").write_text(block, encoding="utf-8")
        elif language == "python":
            subprocess.run([sys.executable, "-c", block], cwd=folder, check=True, stdout=subprocess.PIPE)
        elif language == "sh":
            for line in block.splitlines():
                run(line)
        else:
            command, _, shown = block.removeprefix("$ ").partition("\n")
            printed = run(command)
            if command.split()[1] not in OF_THE_MACHINE:
                assert not (missing := words(shown) - words(printed)), f"{command}: {missing}"


def run(command: str) -> str:
    """Run a command of twil in this process, and give what it printed."""
    program, *arguments = shlex.split(command, comments=True)
    assert program == "twil", command
    done = twil_command(*arguments)
    assert done.exit_code == 0, f"{command}\n{done.output}"
    return done.output


def words(text: str) -> set[str]:
    """Give the words of a text; numbers and units of memory are the machine's."""
    return set(re.findall(r"[^\W\d_]{3,}", text)) - {"MiB", "GiB"}
