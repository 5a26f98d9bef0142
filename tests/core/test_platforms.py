"""What Windows and macOS lack is used nowhere without a look whether it is there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(file for room in ("twil", "cli", "export") for file in (ROOT / room).rglob("*.py"))
POSIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}


def trees() -> Iterator[tuple[str, ast.Module]]:
    for file in FILES:
        yield str(file.relative_to(ROOT)), ast.parse(file.read_text(encoding="utf-8"))


def test_processes_are_spawned_as_on_every_system() -> None:
    """A fork of a process that has threads, as PyTorch's and ONNX Runtime's have, may hang."""
    found = {}
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                called = f"{node.value.id}.{node.attr}"
                assert called not in {"os.fork", "multiprocessing.Process", "multiprocessing.Pool"}, name
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "multiprocessing.get_context":
                found[name] = ast.unparse(node)
    assert found == {"twil/search/processes.py": "multiprocessing.get_context('spawn')"}


@pytest.mark.parametrize("module", sorted(POSIX_MODULES))
def test_no_module_needs_at_its_import_what_windows_lacks(module: str) -> None:
    for name, tree in trees():
        for node in tree.body:
            if isinstance(node, ast.Import):
                assert module not in {alias.name for alias in node.names}, name
            if isinstance(node, ast.ImportFrom):
                assert module != node.module, name
