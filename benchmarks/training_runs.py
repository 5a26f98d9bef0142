"""What benchmarks share that train through the command line: runs that go on where they stopped, tables."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def twil(*arguments: object, threads: int | None = None) -> str:
    """Run a command, its progress on stderr, and return its stdout; a failure ends the benchmark."""
    print("$ twil", *arguments, flush=True)
    limit = {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)} if threads else {}
    command = [sys.executable, "-m", "twil", *map(str, arguments)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **limit}, check=False
    )
    if done.returncode:
        raise SystemExit(f"twil {arguments[0]} ended with {done.returncode}")
    return done.stdout


def resume(*arguments: object, output: Path, threads: int | None = None) -> None:
    """Run a training command to its end, from where it was interrupted; nothing where it is done."""
    if output.exists():
        return
    begun = output.with_name(f"{output.name}.checkpoint").exists()
    twil(*arguments, "-o", output, *(["--resume"] if begun else []), threads=threads)


def drawn_anew(shape: dict[str, Any], tokenizer: Path) -> list[object]:
    """Give the options of a fine-tuning that starts from an encoder's shape without its weights."""
    known = {key: value for key, value in shape.items() if value is not None and key != "vocab_size"}
    changes = [f"model.encoder.{key}={json.dumps(value)}" for key, value in known.items()]
    return ["--tokenizer", tokenizer, *(option for change in changes for option in ("--set", change))]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Write a mean and the standard deviation of a sample."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out as Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
