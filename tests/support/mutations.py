"""Damaged inputs, and commands that are given them: whatever a file holds, a command ends as it is told to.

`tests/data/test_fuzz.py` tries some hundreds, `benchmarks/faults.py` thousands.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from bundles import write_bundle

from twil.bundle.bundle import CHECKSUM
from twil.cli.main import main
from twil.config.training import finetune_config
from twil.core.storage import sha256
from twil.text.tokenizer import save_tokenizer
from twil.text.vocabulary import train_vocabulary
from twil.train.finetune import finetune_events

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 60
"""The most that a command may take with inputs as small as these."""
_ROOM = 2 << 30  # bytes of memory that a command may take besides what is loaded
_TOKENS = (
    *(
        b"\0",
        b'"',
        b"'",
        b"\t",
        b",",
        b";",
        b"\r",
        b"\n\n",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"{",
        b"]",
    ),
    *(
        b"-1",
        b"1e999",
        b"9" * 30,
        b"9" * 5_000,
        b"null",
        b"NaN",
        b"true",
        b"\\",
        b"=",
        b"[[",
        b"../",
        b"/dev/zero",
    ),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1 << 62, 10**400, 1e308, "", "x" * 1_000, "../../x", "/dev/null"),
    *([], {}, ["x"], [0], {"x": 1}, [[[[[]]]]], "NaN", "\ud800"),
)


def mutated(content: bytes, randomness: random.Random) -> bytes:
    """Damage some bytes once or several times."""
    for _ in range(randomness.choice((1, 1, 1, 2, 5))):
        first, second = sorted(randomness.randrange(len(content) + 1) for _ in range(2))
        second = min(second, first + randomness.choice((1, 8, 200)))
        kind = randomness.randrange(6)
        if kind == 0:
            content = (
                content[:first]
                + bytes(randomness.randrange(256) for _ in range(second - first))
                + content[second:]
            )
        elif kind == 1:
            content = content[:first] + content[second:]
        elif kind == 2:
            content = content[:second] + content[first:]
        elif kind == 3:
            content = content[:first]
        else:
            content = (
                content[:first] + randomness.choice(_TOKENS) * randomness.choice((1, 1, 3)) + content[first:]
            )
    return content


def mutated_json(content: bytes, randomness: random.Random) -> bytes:
    """Put something else in the place of a value, leave one out, or add one."""
    value = json.loads(content)
    places = list(_places(value))
    holder, key = randomness.choice(places)
    kind = randomness.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[str(key) + "x"] = holder.pop(key)
    else:
        holder[key] = randomness.choice(_VALUES)
    return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


SETTINGS = """
[data]
labels = ["NEG", "POS"]
[model]
output_dropout = 0.1
[train]
lr = 1e-4
batch_tokens = 64
class_weights = "balanced"
loss = { name = "cross-entropy", label_smoothing = 0.1 }
[optimiser]
name = "adamw"
"""


def write_whole(folder: Path) -> Path:
    """Write the whole inputs: tables of all formats, a bundle, a model folder, a tokenizer, settings."""
    rows = pd.read_csv(EXAMPLES / "tweets_train.tsv", sep="\t", quoting=csv.QUOTE_NONE)
    texts = [*rows["TEXT"][:20], 'dijo "ya", y se fue', "año; nuevo"]
    columns = {
        "ID": [str(number) for number in range(len(texts))],
        "TEXT": texts,
        "CLASS": ["NEG", "POS"] * (len(texts) // 2),
    }
    frame = pd.DataFrame(columns)
    frame.to_csv(folder / "t.csv", index=False)
    tsv = "\n".join("\t".join(row) for row in ([*columns], *zip(*columns.values(), strict=True))) + "\n"
    (folder / "t.tsv").write_text(tsv, encoding="utf-8")
    (folder / "t.tsv.gz").write_bytes(gzip.compress(tsv.encode(), mtime=0))
    with pa.CompressedOutputStream(str(folder / "t.csv.zst"), "zstd") as stream:
        stream.write((folder / "t.csv").read_bytes())
    frame.to_json(folder / "t.jsonl", orient="records", lines=True, force_ascii=False)
    frame.to_json(folder / "t.json", orient="records", force_ascii=False)
    frame.to_parquet(folder / "t.parquet")
    (folder / "t.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    write_bundle(folder / "bundle")
    tokenizer = train_vocabulary(rows["TEXT"], size=300).tokenizer
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    shape = {"hidden_size": 16, "n_layers": 1, "n_heads": 1, "head_size": 16, "max_positions": 40}
    settings = {
        "data": {"train": folder / "t.tsv"},
        "model": {"encoder": shape, "tokenizer": folder / "tokenizer.json"},
        "train": {"steps": 1},
    }
    for _ in finetune_events(finetune_config(None, settings), folder / "model"):
        pass
    (folder / "c.toml").write_text(SETTINGS, encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Kind:
    """Inputs of a kind, and what is done with them.

    Attributes:
        files: The inputs that are damaged, below the folder of the whole ones.
        commands: What they are given to; ``{}`` stands for the input, or the folder that it lies in.
        in_folder: Whether commands are given that folder.
    """

    files: tuple[str, ...]
    commands: tuple[str, ...]
    in_folder: bool = False


TABLES = ("t.tsv", "t.csv", "t.jsonl", "t.json", "t.parquet", "t.txt", "t.tsv.gz", "t.csv.zst")
KINDS = {
    "tables": Kind(
        TABLES,
        (
            "predict {} --model @bundle -o @out.tsv --on-error mark --quiet",
            "predict {} --model @bundle -o @out.parquet --on-error skip",
            "predict {} --model @bundle -o @out.jsonl",
            "data {}",
            "vocab {} --size 90 -o @out.json",
            "corpus {} --tokenizer @tokenizer.json -o @out --on-error skip",
            "evaluate @bundle {}",
        ),
    ),
    "bundles": Kind(
        ("bundle/model.onnx", "bundle/tokenizer.json", "bundle/bundle.json"),
        ("predict @t.tsv --model {} -o @out.tsv", "label hola --model {}", "evaluate {} @t.tsv"),
        in_folder=True,
    ),
    "folders": Kind(
        ("model/config.json", "model/tokenizer.json", "model/model.safetensors"),
        ("evaluate {} @t.tsv", "finetune @t.tsv --model {} -o @out --set train.steps=1 --quiet"),
        in_folder=True,
    ),
    "settings": Kind(
        ("c.toml", "t.tsv", "t.jsonl", "tokenizer.json"),
        (
            "finetune @t.tsv --config @c.toml --model @model -o @out --set train.steps=1 --quiet",
            "finetune @t.jsonl --init tiny --tokenizer @tokenizer.json -o @out --set train.steps=1 --quiet",
            "corpus @t.jsonl --tokenizer @tokenizer.json -o @out",
            "data @t.tsv --tokenizer @tokenizer.json",
        ),
    ),
}


def run_cases(whole: Path, kind: Kind, cases: range, work: Path, log: Path) -> None:
    """Try damaged inputs one after another, and write what is wrong with how each ended on a line of the log.

    A process that crashes leaves a log that lacks lines.

    Args:
        whole: The folder of the whole inputs.
        kind: What is tried.
        cases: Seeds of the damage.
        work: A folder to work in, made and removed.
        log: The log, a JSON object on each line: `case`, what it was, `code`, how it ended, and
            `wrong`, None where all is well.
    """
    _bound_memory()
    for case in cases:
        randomness = random.Random(f"{kind.files} {case}")
        name = randomness.choice(kind.files)
        command = randomness.choice(kind.commands)
        shutil.copytree(whole, work)
        damaged = work / name
        content = damaged.read_bytes()
        if name.endswith(".json") and randomness.random() < 0.5:
            damage: Callable[[bytes, random.Random], bytes] = mutated_json
        else:
            damage = mutated
        damaged.write_bytes(damage(content, randomness))
        if randomness.random() < 0.8:
            _record(damaged, content)
        given = str(damaged.parent if kind.in_folder else damaged)
        words = [word.replace("{}", given).replace("@", str(work) + "/") for word in command.split()]
        signal.alarm(SECONDS)
        code, said = _run(words, work / "said")
        signal.alarm(0)
        wrong = judge(code, said, work, whole)
        with log.open("a", encoding="utf-8") as file:
            entry: Mapping[str, Any] = {
                "case": f"{name} {case}: twil {command}",
                "code": code,
                "said": said[-300:],
                "wrong": wrong,
            }
            file.write(json.dumps(entry) + "\n")
        shutil.rmtree(work)


def _record(damaged: Path, whole: bytes) -> None:
    """Write the hash of a damaged file where that of the whole one stands, as who means harm does."""
    before, now = hashlib.sha256(whole).hexdigest(), sha256(damaged)
    for file in damaged.parent.glob("*.json"):
        content = file.read_bytes()
        if before.encode() not in content and CHECKSUM.encode() not in content:
            continue
        try:
            value = json.loads(content.replace(before.encode(), now.encode()))
            del value[CHECKSUM]
        except ValueError:
            continue
        except (KeyError, TypeError):
            file.write_text(json.dumps(value), encoding="utf-8")
        else:
            rest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
            file.write_text(json.dumps(value | {CHECKSUM: rest}), encoding="utf-8")


def _bound_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    most = pages * resource.getpagesize() + _ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _run(words: list[str], said: Path) -> tuple[int | str, str]:
    """Run a command in this process; return its code, or what it did not catch, and what it said."""
    streams = [os.dup(number) for number in (1, 2)]
    error = sys.stderr
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for number in (1, 2):
            os.dup2(descriptor, number)
        sys.argv = ["twil", *words]
        code: int | str = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException as unexpected:
            code = f"{type(unexpected).__name__}: {unexpected}"[:300]
        sys.stdout.flush()
    finally:
        sys.stderr = error
        for number, stream in zip((1, 2), streams, strict=True):
            os.dup2(stream, number)
            os.close(stream)
        os.close(descriptor)
    return code, said.read_text(encoding="utf-8", errors="replace")


def made_beside(work: Path, whole: Path) -> set[str]:
    """Name what lies in a folder that the whole inputs have not."""
    return {entry.name for entry in work.iterdir()} - {entry.name for entry in whole.iterdir()}


def judge(code: int | str, said: str, work: Path, whole: Path) -> str | None:
    """Say what is wrong with how a command ended."""
    lines = said.splitlines()
    if code not in (0, 1, 2):
        return f"ended with {code}: {said[-300:]}"
    if "Traceback" in said:
        return f"a traceback: {said[-300:]}"
    if code == 1 and (not lines or not lines[-1].startswith("twil: error: ")):
        return f"no line of an error: {said[-300:]}"
    if code == 1 and sum(line.startswith("twil: error: ") for line in lines) > 1:
        return f"several errors: {said[-300:]}"
    made = made_beside(work, whole) - {"said"}
    made.discard("out.checkpoint")  # what is kept of an interrupted run
    if any(name.startswith(".") for name in made):
        return f"left {sorted(made)}"
    if code and made:
        return f"failed, and left {sorted(made)}: {said[-300:]}"
    return None
