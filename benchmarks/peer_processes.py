"""Peers in environments of their own: installed there, started as processes that answer, and named."""

from __future__ import annotations

import json
import statistics
import subprocess
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Packages = Mapping[str, Sequence[str]]
"""What pip installs in each environment."""


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command; its failure ends the benchmark with what it said."""
    print("$", *command, flush=True)
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done


def python_of(work: Path, environment: str) -> Path:
    return work / environment / "bin" / "python"


def make_environments(work: Path, environments: Packages) -> None:
    for name, packages in environments.items():
        python = python_of(work, name)
        if not python.exists():
            venv.create(work / name, with_pip=True)
        run(python, "-m", "pip", "install", "-q", *packages)


def versions(work: Path, environments: Packages, shown: Sequence[str]) -> str:
    """Name some packages and their versions, as the environments have them."""
    code = (
        "from importlib.metadata import distributions; "
        "print('\\n'.join(d.metadata['Name'] + ' ' + d.version for d in distributions()))"
    )
    found: dict[str, list[str]] = {name: [] for name in shown}
    for environment in environments:
        for line in run(python_of(work, environment), "-c", code).stdout.splitlines():
            name, number = line.split()
            if name in found and number not in found[name]:
                found[name].append(number)
    return ", ".join(f"{name} {' and '.join(numbers)}" for name, numbers in found.items())


@contextmanager
def serving(commands: Sequence[Sequence[object]], log: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Start processes that read lines of JSON and answer each, one after another."""
    processes = []
    try:
        for command in commands:
            with log.open("a", encoding="utf-8") as errors:
                process = subprocess.Popen(
                    list(map(str, command)),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            processes.append(process)
            answer(process)
        yield processes
    finally:
        for process in processes:
            assert process.stdin
            process.stdin.close()
        for process in processes:
            process.wait(60)


def ask(process: subprocess.Popen[str], message: object) -> dict[str, Any]:
    assert process.stdin
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()
    found: dict[str, Any] = answer(process)
    return found


def answer(process: subprocess.Popen[str]) -> Any:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{process.args!r} ended: its errors are in serving.log of the work folder")
    return json.loads(line)


def ratio(own: Sequence[float], other: Sequence[float]) -> float:
    """Give the median of the rounds' ratios."""
    return statistics.median(one / two for one, two in zip(own, other, strict=True))
