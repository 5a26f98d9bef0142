"""Draw docs/terminal.svg: commands of twil and what a terminal shows of them.

python docs/draw_terminal.py
"""

from __future__ import annotations

import inspect
import io
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 96
COMMANDS = (
    "twil label 'me encanta este barrio' 'otra vez sin agua, qué asco de día'",
    "twil predict examples/to_predict.tsv --model sentiment --model emotion -o labelled.tsv",
)


def main() -> None:
    """Run the commands in a folder of their own, and draw them one below the other."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "examples").symlink_to(ROOT / "examples")
        for command in COMMANDS:
            console.print(Text(f"$ {command}", style="bold green"))
            console.print(Text.from_ansi(shown(command, folder)))
    # A picture that loads nothing: the reader's own monospaced font in place of one from elsewhere.
    form = inspect.signature(Console.export_svg).parameters["code_format"].default
    plain = re.sub(r"@font-face \{\{.*?\}\}\n", "", form, flags=re.DOTALL)
    plain = plain.replace("Fira Code", "ui-monospace, Menlo, Consolas")
    (ROOT / "docs" / "terminal.svg").write_text(
        console.export_svg(title="twil", theme=MONOKAI, code_format=plain, unique_id="twil"), encoding="utf-8"
    )


def shown(command: str, folder: str) -> str:
    """Give what a command says of itself, and what it writes to a terminal."""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
    arguments = [sys.executable, "-m", "twil", *shlex.split(command)[1:]]
    done = subprocess.run(
        arguments, cwd=folder, env=environment, stdout=slave, stderr=subprocess.PIPE, text=True, check=True
    )
    os.close(slave)
    written = b""
    try:
        while part := os.read(master, 1 << 16):
            written += part
    except OSError:  # the end of a terminal that nobody writes to
        pass
    os.close(master)
    return (done.stderr + written.decode()).replace("\r", "").rstrip("\n")


if __name__ == "__main__":
    main()
