"""Put twil through faults: damaged inputs, signals, a disk, a memory and open files that do not suffice.

    python benchmarks/faults.py --work FOLDER [--mutations 5000] [--signals 200]

A command has to end with what was asked for, or with one line and exit code 1, and to leave nothing
half-written; one that a signal ends can be continued to what it would have made. All else is a violation. The
page, `benchmarks/results/faults.md`, counts and lists them.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from mutations import KINDS, judge, made_beside, run_cases, write_whole
from processes import FORKS, TwilProcess
from training_runs import table

from twil.core.machine import available_cpus, cpu_name
from twil.core.version import __version__

CHUNK = 100
SHARES = {"tables": 0.4, "bundles": 0.2, "folders": 0.2, "settings": 0.2}
COMMANDS = (
    "predict @t.tsv --model @bundle -o @out.tsv",
    "predict @t.jsonl --model @bundle -o @out.parquet",
    "vocab @t.tsv --size 90 -o @out.json",
    "corpus @t.tsv --tokenizer @tokenizer.json -o @out",
    "export @model --onnx -o @out",
    "finetune @t.tsv --model @model -o @out --set train.steps=2",
    "evaluate @bundle @t.tsv",
    "data @t.tsv",
)
LIMITS = {
    "bytes of a file": (resource.RLIMIT_FSIZE, (0, 100, 1_000, 4_000, 16_000, 64_000)),
    "bytes of memory": (
        resource.RLIMIT_AS,
        tuple(megabytes << 20 for megabytes in (200, 300, 500, 800, 1200)),
    ),
    "open files": (resource.RLIMIT_NOFILE, (6, 10, 16, 24, 40)),
}
STOPPED = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
LONG = {
    "predict @long.tsv --model @bundle -o @out.tsv --quiet": "out.tsv",
    "finetune @t.tsv --model @model -o @out --set train.epochs=20 --set train.checkpoint_steps=5": "out",
    "corpus @long.tsv --tokenizer @tokenizer.json -o @out --quiet": "out",
}
PATIENCE = 120.0

PAGE = """# Faults

Written by `benchmarks/faults.py`, which says what is counted: twil {twil}, {machine}, {minutes:.0f} minutes.

{table}
{violations}"""


def words(command: str, work: Path) -> list[str]:
    """Give the words of a command, whose ``@`` stands for the folder that it works in."""
    return [word.replace("@", f"{work}/") for word in command.split()]


def damaged_inputs(whole: Path, work: Path, count: int) -> Iterator[tuple[str, str, str | None]]:
    """Try damaged inputs; yield of each what kind it is, what it was and what is wrong."""
    for name, share in SHARES.items():
        end = round(count * share)
        begin = 0
        while begin < end:
            log = work / "log.jsonl"
            log.unlink(missing_ok=True)
            cases = range(begin, min(end, begin + CHUNK))
            process = FORKS.Process(target=run_cases, args=(whole, KINDS[name], cases, work / "inputs", log))
            process.start()
            process.join()
            tried = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
            for case in tried:
                yield f"damaged {name}", case["case"], case["wrong"]
            begin += len(tried)
            if len(tried) < len(cases):  # it is gone on with behind the one that crashed
                yield f"damaged {name}", f"case {begin}", f"the process ended with {process.exitcode}"
                begin += 1
                shutil.rmtree(work / "inputs", ignore_errors=True)


def tight_limits(whole: Path, work: Path) -> Iterator[tuple[str, str, str | None]]:
    """Run commands in processes that may not have much of something."""
    for what, (kind, limits) in LIMITS.items():
        for limit in limits:
            for command in COMMANDS:
                folder = work / "inputs"
                shutil.copytree(whole, folder)
                started = [sys.executable, "-m", "twil", *words(command, folder)]
                bound = bounded(kind, limit)
                done = subprocess.run(
                    started, preexec_fn=bound, capture_output=True, text=True, timeout=PATIENCE
                )
                wrong = judge(done.returncode, done.stdout + done.stderr, folder, whole)
                yield f"few {what}", f"{limit:,}: twil {command}", wrong
                shutil.rmtree(folder)


def bounded(kind: int, limit: int) -> Callable[[], None]:
    """Bound something in a process that is about to start."""
    return lambda: resource.setrlimit(kind, (limit, limit))


def signals(whole: Path, work: Path, count: int) -> Iterator[tuple[str, str, str | None]]:
    """End commands at a random moment, and continue them."""
    lasted, made = {}, {}
    for command, output in LONG.items():
        folder = work / "inputs"
        shutil.copytree(whole, folder)
        begin = time.monotonic()
        if TwilProcess(*words(command, folder)).wait():
            raise SystemExit(f"twil {command} does not work undisturbed")
        lasted[command] = time.monotonic() - begin
        made[command] = content(folder / output)
        shutil.rmtree(folder)
    randomness = random.Random(0)
    for number in range(count):
        command, output = list(LONG.items())[number % len(LONG)]
        sent = randomness.choice(list(STOPPED))
        wait = randomness.uniform(0, lasted[command])
        folder = work / "inputs"
        shutil.copytree(whole, folder)
        process = TwilProcess(*words(command, folder))
        process.wait_until_begun()
        time.sleep(wait)
        if process.poll() is None:
            process.send_signal(sent)
        code, said = process.wait(), process.said
        yield (
            "signals",
            f"{sent.name} after {wait:.2f} s: twil {command}",
            stopped(command, output, sent, code, said, folder, whole, made[command]),
        )
        shutil.rmtree(folder)


def stopped(
    command: str,
    output: str,
    sent: signal.Signals,
    code: int,
    said: str,
    folder: Path,
    whole: Path,
    expected: dict[str, bytes],
) -> str | None:
    """Say what is wrong with a command that a signal has ended, or with its continuation."""
    # A signal may come before there is anything to be ended in order, or when all is done.
    if code == 1 and not said:
        code = 0 if (folder / output).exists() else -sent
    # Training keeps its state at either signal, and says so.
    if code not in (0, STOPPED[sent], -sent, STOPPED[signal.SIGINT]) or "Traceback" in said:
        return f"ended with {code}: {said[-300:]}"
    there = made_beside(folder, whole)
    if sent != signal.SIGKILL and (left := sorted(name for name in there if name.startswith("."))):
        return f"left {left}"
    if code == 0 and content(folder / output) != expected:
        return "made something else"
    if (folder / output).exists() and content(folder / output) != expected:
        return f"left {output} half-written"
    if not (folder / output).exists():
        resume = [] if command.startswith("corpus") else ["--resume"]
        again = TwilProcess(*words(command, folder), *resume)
        if again.wait():
            return f"cannot be continued: {again.said[-300:]}"
        if content(folder / output) != expected:
            return "made something else once it was continued"
        there = made_beside(folder, whole)
        if there != {output}:
            return f"left {sorted(there)} once it was continued"
    return None


def content(output: Path) -> dict[str, bytes]:
    """Read what a command made, but for what tells when."""
    files = [output] if output.is_file() else sorted(file for file in output.rglob("*") if file.is_file())
    timed = {"run.json", "log.jsonl", "MODEL_CARD.md", "corpus.json"}
    return {file.name: file.read_bytes() for file in files if file.name not in timed}


def main() -> None:
    """Try everything, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--mutations", type=int, default=5000)
    parser.add_argument("--signals", type=int, default=200)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "faults.md")
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    whole: Path = options.work / "whole"
    whole.mkdir(parents=True)
    begin = time.monotonic()
    write_whole(whole)
    texts = (whole / "t.txt").read_text(encoding="utf-8").splitlines()
    many = [f"{text} {number}" for number in range(400) for text in texts]
    (whole / "long.tsv").write_text("\n".join(["TEXT", *many]) + "\n", encoding="utf-8")
    tried, wrong, listed = Counter[str](), Counter[str](), []
    for source in (
        damaged_inputs(whole, options.work, options.mutations),
        tight_limits(whole, options.work),
        signals(whole, options.work, options.signals),
    ):
        for kind, case, fault in source:
            tried[kind] += 1
            if fault:
                wrong[kind] += 1
                listed.append(f"- {kind}, {case}: {' '.join(fault.split())}")
                print(listed[-1], flush=True)
    rows_ = [[kind, f"{count:,}", str(wrong[kind])] for kind, count in tried.items()]
    rows_.append(["all", f"{tried.total():,}", str(wrong.total())])
    options.output.write_text(
        PAGE.format(
            twil=__version__,
            machine=f"{cpu_name()}, {available_cpus()} CPUs",
            minutes=(time.monotonic() - begin) / 60,
            table=table(["fault", "tried", "violations"], rows_),
            violations="".join(f"\n{line}" for line in listed),
        ),
        encoding="utf-8",
    )
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
