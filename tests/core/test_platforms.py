"""What can be held of systems that are not at hand: encodings, modules of Unix alone, starts of processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import twil

ROOT = Path(twil.__file__).resolve().parent
FOLDERS = (ROOT, ROOT.parent / "cli", ROOT.parent / "export")
SOURCES = [path for folder in FOLDERS for path in folder.rglob("*.py")]


def calls(path: Path) -> list[tuple[int, str, ast.Call]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [(call, call.func.attr if isinstance(call.func, ast.Attribute) else "") for call in found]
    return [(call.lineno, name or getattr(call.func, "id", ""), call) for call, name in named]


def test_texts_are_read_and_written_in_an_encoding_that_is_named() -> None:
    for path in SOURCES:
        for line, name, call in calls(path):
            told = any(word.arg == "encoding" for word in call.keywords)
            if name in ("read_text", "write_text"):
                told = told or len(call.args) > (name == "write_text")
                assert told, f"{path}:{line}: {ast.unparse(call)}"
            if name == "open" and isinstance(call.func, ast.Name) and not told:
                mode = call.args[1] if len(call.args) > 1 else None
                assert isinstance(mode, ast.Constant), f"{path}:{line}: open() of text names its encoding"
                assert "b" in str(mode.value), f"{path}:{line}: open() of text names its encoding"


def test_no_process_is_forked() -> None:
    started = [
        (path.name, ast.unparse(call.args[0]))
        for path in SOURCES
        for _, name, call in calls(path)
        if name in ("get_context", "set_start_method")
    ]
    assert started == [("processes.py", "'spawn'")]
    assert not [path for path in SOURCES for _, name, _ in calls(path) if name == "fork"]


def test_texts_are_labelled_without_modules_that_unix_alone_has(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('fcntl', 'grp', 'pwd', 'resource', 'termios'): sys.modules[name] = None\n"
        "import twil, twil.core.storage\n"
        "print(twil.Predictor('sentiment')('me encanta este barrio').label)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "positive\n"), done.stderr
