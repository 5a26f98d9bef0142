"""What a process can ask of its machine."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from twil import machine

PROGRAM = """
import mmap, resource, sys
import numpy as np
from twil.machine import keep_freed_memory

if sys.argv[1] == "keep" and not keep_freed_memory():
    raise SystemExit("not told")
for _ in range(3):
    block = np.ones(64 << 17)
    del block
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
block = np.ones(64 << 17)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * mmap.PAGESIZE)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library cannot be told")
def test_memory_that_was_freed_is_taken_again_without_new_pages() -> None:
    def new_bytes(mode: str) -> int:
        return int(subprocess.check_output([sys.executable, "-c", PROGRAM, mode], text=True))

    assert new_bytes("keep") < 1 << 20  # of 64 MiB


def test_a_system_that_cannot_be_told_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    assert not machine.keep_freed_memory()
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: object())
    assert not machine.keep_freed_memory()
