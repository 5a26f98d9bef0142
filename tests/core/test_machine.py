"""What a process can ask of its machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from twil.cli import console
from twil.core import machine

PROGRAM = """
import mmap, resource, sys
import numpy as np
from twil.core.machine import keep_freed_memory

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


WATCHED = """
import sys
from twil.cli import console

def watched(threads):
    print(threads, "torch" in sys.modules)
    sys.exit(7)

console.prepare_torch = watched
from twil.cli.main import main

sys.argv = ["twil", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    "command", [["pretrain", "a.toml"], ["finetune", "a.tsv"], ["search", "a.tsv"], ["distill", "a", "b.txt"]]
)
def test_training_commands_say_how_torch_is_to_run_before_they_import_it(command: list[str]) -> None:
    arguments = [sys.executable, "-c", WATCHED, *command, "-o", "out", "--threads", "3"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "3 False\n"), done.stderr


def cpu_times(*idle_of_100: int) -> list[str]:
    """Write what /proc/stat says before and after 100 ticks in which each CPU was idle for so many."""
    head, tail = "cpu  1 1 1 1 1 1 1 0 0 0", "intr 5 0 0\nctxt 7"
    before = [f"cpu{number} 40 0 9 500 6 0 0 0 3 0" for number in range(len(idle_of_100))]
    after = [
        f"cpu{number} {140 - idle} 0 9 {500 + idle} 6 0 0 0 3 0" for number, idle in enumerate(idle_of_100)
    ]
    return ["\n".join([head, *lines, tail]) for lines in (before, after)]


@pytest.mark.parametrize(
    ("idle", "allowed", "busy"),
    [((100, 98), {0, 1}, 0), ((5, 98), {0, 1}, 1), ((0, 0), {0, 1}, 2), ((0, 99, 0), {1}, 0), ((0,), {7}, 0)],
)
def test_cpus_that_others_use_are_counted_among_those_that_this_process_has(
    idle: tuple[int, ...], allowed: set[int], busy: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = tmp_path / "stat"
    before, after = cpu_times(*idle)
    stat.write_text(before)
    monkeypatch.setattr(machine, "_CPU_TIMES", stat)
    monkeypatch.setattr(machine.time, "sleep", lambda seconds: stat.write_text(after))
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: allowed, raising=False)
    assert machine.busy_cpus() == busy


def test_a_system_that_does_not_count_has_no_busy_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_CPU_TIMES", tmp_path / "none")
    assert machine.busy_cpus() == 0


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment that says nothing of threads, of a machine with four CPUs."""
    names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    values = {name: value for name, value in os.environ.items() if name not in names}
    monkeypatch.setattr(console.os, "environ", values)
    monkeypatch.setattr(machine, "available_cpus", lambda: 4)
    return values


@pytest.mark.parametrize(
    ("threads", "busy", "told", "sleeps"),
    [
        (None, 0, {}, False),
        (None, 1, {}, True),
        (3, 1, {}, False),
        (3, 2, {}, True),
        (9, 1, {}, True),
        (1, 4, {}, False),
        (None, 1, {"OMP_NUM_THREADS": "3"}, False),
        (None, 4, {"OMP_NUM_THREADS": "some"}, True),
        (None, 4, {"OMP_WAIT_POLICY": "active"}, False),
    ],
)
def test_threads_that_wait_sleep_where_others_need_their_cpus(
    threads: int | None,
    busy: int,
    told: dict[str, str],
    sleeps: bool,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment.update(told)
    monkeypatch.setattr(machine, "busy_cpus", lambda: busy)
    console.prepare_torch(threads)
    assert (environment.get("GOMP_SPINCOUNT") == "0") is sleeps
    wanted = str(min(threads, 4)) if threads else told.get("OMP_NUM_THREADS")
    assert environment.get("OMP_NUM_THREADS") == wanted
