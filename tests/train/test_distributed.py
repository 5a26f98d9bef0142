"""Several processes that share each step do what one process does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import SHAPE, make_corpus, tiny_run
from locks import held
from processes import free_port, run_together, start_together, wait_for_lines
from safetensors.torch import load_file
from tuning import twil_command

import twil
from twil.config.loop import LOG
from twil.core.errors import ConfigError, TwilError
from twil.data.corpus.corpus import open_corpus
from twil.data.samples import Samples
from twil.train.distributed import World, join_world
from twil.train.objectives.denoising import Denoising
from twil.train.pretraining import pretrain_events
from twil.train.run_log import read_log

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, examples: Path, tokenizer_file: Path) -> Path:
    return make_corpus(examples, tokenizer_file, tmp_path_factory.mktemp("corpus") / "corpus", dev=0.05)


@pytest.fixture
def run_file(corpus: Path, tmp_path: Path) -> Path:
    # 85 rows a step and a last step that is smaller: no number of rows is even, nor are their tokens.
    shape = "".join(f"{name} = {value}\n" for name, value in SHAPE.items())
    path = tmp_path / "run.toml"
    path.write_text(
        f'[data]\ncorpus = "{corpus}"\n[model.encoder]\n{shape}'
        "[train]\nepochs = 3\nbatch_rows = 85\nbatch_tokens = 700\n"
        'precision = "fp32"\nlr = 3e-3\nlog_steps = 1\n',
        encoding="utf-8",
    )
    return path


def run(processes: int, *arguments: str, work: str = "pretrain") -> str:
    if processes > 1:
        return run_together(processes, work, *arguments)
    alone = twil_command(work, *arguments)
    assert alone.exit_code == 0, alone.output
    return alone.output


def figures(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = [line for line in read_log(folder / LOG) if line["event"] == event]
    return [line.get("metrics") or line for line in lines]


def test_two_processes_compute_what_one_does_with_uneven_rows(run_file: Path, tmp_path: Path) -> None:
    said = run(2, str(run_file), "-o", str(tmp_path / "two"))
    run(1, str(run_file), "-o", str(tmp_path / "one"))
    assert said.count("parameters;") == 1  # one process speaks for both
    assert "in 2 processes" in said
    one, two = figures(tmp_path / "one", "step"), figures(tmp_path / "two", "step")
    assert len(one) == len(two) > 6
    for ours, theirs in zip(one, two, strict=True):
        assert theirs["rows"] == ours["rows"]
        assert theirs["tokens"] == ours["tokens"]
        for name in ("loss", "mlm_loss", "rop_loss", "mlm_accuracy", "rop_accuracy"):
            assert theirs[name] == pytest.approx(ours[name], abs=1e-5), (ours["step"], name)
    dev = zip(figures(tmp_path / "one", "evaluation"), figures(tmp_path / "two", "evaluation"), strict=True)
    for ours, theirs in dev:
        assert theirs == pytest.approx(ours, rel=1e-5)
    left, right = (twil.load(tmp_path / name).state_dict() for name in ("one", "two"))
    for name, tensor in left.items():
        torch.testing.assert_close(right[name], tensor, atol=1e-4, rtol=1e-3)


def test_a_step_with_fewer_rows_than_processes_hangs_none_and_changes_nothing(
    run_file: Path, tmp_path: Path
) -> None:
    # One row a step: the second process has none, ever.
    few = ["--set", "train.steps=3", "--set", "train.batch_rows=1", "--set", "data.dev_rows=1"]
    run(2, str(run_file), *few, "-o", str(tmp_path / "two"))
    run(1, str(run_file), *few, "-o", str(tmp_path / "one"))
    for ours, theirs in zip(
        figures(tmp_path / "one", "step"), figures(tmp_path / "two", "step"), strict=True
    ):
        assert theirs["rows"] == ours["rows"] == 1
        assert theirs["loss"] == pytest.approx(ours["loss"], abs=1e-5)


MEMORY = "model.encoder.memory={layers=[1], n_heads=2, n_keys=8, key_size=8, knn=4, query_norm=true}"


def stop_torchrun(line: int, *arguments: str, log: Path) -> str:
    """Let torchrun start three, wait for a line of their log, and stop it as a cluster does."""
    launcher = ["torch.distributed.run", "--nproc-per-node", "3", "--master-port", free_port()]
    process = subprocess.Popen(
        [sys.executable, "-m", *launcher, "-m", "twil", "pretrain", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    wait_for_lines(process, log, line)
    process.terminate()
    return process.communicate(timeout=90)[0]


def interrupt_three(line: int, *arguments: str, log: Path) -> str:
    """Start three, wait for a line of their log, and press Ctrl-C."""
    ranks = start_together(3, "pretrain", *arguments)
    wait_for_lines(ranks[0], log, line)
    for _ in range(2):  # it reaches all processes at once, and the launcher passes it on
        for rank in ranks:
            rank.send_signal(signal.SIGINT)
    assert [rank.wait() for rank in ranks] == [130] * 3
    return "".join(rank.said for rank in ranks)


def test_three_processes_asked_to_stop_go_on_exactly_and_measure_the_model_that_is_kept(
    run_file: Path, corpus: Path, tmp_path: Path
) -> None:
    # Of three numbers the sum depends on their order; of two it does not.
    # The memory's statistics of queries are the first process's own, and those that are kept.
    more = ["--set", "model.encoder.output_dropout=0.1", "--set", MEMORY, "--set", "train.steps=40"]
    run(3, str(run_file), *more, "-o", str(tmp_path / "whole"))
    part, log = [str(run_file), *more, "-o", str(tmp_path / "part")], tmp_path / "part.checkpoint" / LOG
    said = stop_torchrun(6, *part, log=log)
    assert said.count("stopped in epoch") == 1, said
    before = len(read_log(log))
    said = interrupt_three(before + 6, *part, "--resume", log=log)
    assert "continuing after step" in said
    assert said.count("stopped in epoch") == 1, said
    assert not (tmp_path / "part").exists()
    assert "continuing after step" in run(3, *part, "--resume")
    whole, rest = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(whole[name], rest[name]) for name in whole)
    record = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert measure(tmp_path / "whole", corpus) == pytest.approx(record["results"]["dev"], rel=1e-6)


def test_two_processes_fine_tune_as_one_does_with_twice_the_accumulation(
    tmp_path: Path, examples: Path, tokenizer_file: Path
) -> None:
    # 21 rows to learn from, and 21 of dev: neither splits evenly, and the last step leaves a process without.
    lines = (examples / "tweets_train.tsv").read_text(encoding="utf-8").splitlines()
    for name, rows in (("train", lines[1:22]), ("dev", lines[22:43])):
        (tmp_path / f"{name}.tsv").write_text("\n".join([lines[0], *rows, ""]), encoding="utf-8")
    data = [str(tmp_path / "train.tsv"), "--dev", str(tmp_path / "dev.tsv"), "--init", "tiny"]
    data += ["--tokenizer", str(tokenizer_file), "--epochs", "2", "--batch-tokens", "64", "--lr", "1e-3"]
    data += ["--set", "model.classifier.dropout=0", "--set", "train.log_steps=1"]
    said = run(2, *data, "-o", str(tmp_path / "two"), work="finetune")
    run(1, *data, "--set", "train.accumulation=2", "-o", str(tmp_path / "one"), work="finetune")
    assert said.count("shared by 2 processes") == 1  # one process speaks for both
    assert said.count("macro average") == 1
    for event in ("step", "evaluation"):
        one, two = figures(tmp_path / "one", event), figures(tmp_path / "two", event)
        assert len(one) == len(two)
        for ours, theirs in zip(one, two, strict=True):
            for key in ours.keys() & {"rows", "tokens", "loss", "accuracy", "macro_f1"}:
                assert theirs[key] == pytest.approx(ours[key], abs=1e-5), key
    left, right = (twil.load(tmp_path / name).state_dict() for name in ("one", "two"))
    for name, tensor in left.items():
        torch.testing.assert_close(right[name], tensor, atol=1e-4, rtol=1e-3)


def test_processes_that_do_not_stand_at_the_same_step_refuse_to_go_on(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "agrees", lambda self, value: False)
    with pytest.raises(ConfigError, match=r"not every process finds the state in .*model\.checkpoint"):
        list(pretrain_events(tiny_run(corpus), tmp_path / "model"))


def test_processes_whose_output_another_run_writes_all_end_at_once(run_file: Path, tmp_path: Path) -> None:
    with held(tmp_path / "model"):
        ranks = start_together(2, "pretrain", run_file, "-o", tmp_path / "model")
        assert [rank.wait() for rank in ranks] == [1, 1]
    first, second = (rank.said for rank in ranks)
    assert f"twil: error: another process is writing {tmp_path / 'model'}:" in first
    assert "twil: error: the first of the processes cannot begin, and says why" in second
    assert "Traceback" not in first + second
    assert {path.name for path in tmp_path.iterdir()} == {run_file.name, ".model.lock"}


@pytest.mark.parametrize("error", [None, TwilError("taken"), PermissionError("taken")], ids=repr)
@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_alone_takes_the_output_and_its_refusal_is_everybodys(
    rank: int, error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = []

    @contextmanager
    def place() -> Iterator[None]:
        if error:
            raise error
        entered.append(rank)
        yield

    told = []

    def total(self: World, values: list[bool]) -> list[float]:
        told.append(values)
        return [float(error is not None)]

    monkeypatch.setattr(World, "total", total)
    with ExitStack() as stack:
        if error:
            kind, said = (TwilError, "cannot begin") if rank else (type(error), "taken")
            stack.enter_context(pytest.raises(kind, match=said))
        stack.enter_context(World(rank=rank, size=2).reserve(place()))
        assert not error
    assert entered == ([0] if rank == 0 and not error else [])
    assert told == [[rank == 0 and error is not None]]


@pytest.mark.parametrize(
    ("steps", "same"), [((5, 5, 5), True), ((5, 0, 5), False), ((5, 0), False), ((0, 0), True), ((7,), True)]
)
def test_processes_agree_where_all_have_the_same_number(
    steps: tuple[int, ...], same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals = [float(sum(steps)), float(sum(step**2 for step in steps))]
    monkeypatch.setattr(World, "total", lambda self, values: totals)
    assert World(size=len(steps)).agrees(steps[0]) is same


def measure(folder: Path, corpus: Path) -> dict[str, float]:
    """Evaluate a model folder in this process alone."""
    held, options = open_corpus(corpus), tiny_run(corpus)
    train, dev = (
        Samples(part, options.objective.masking, vocab_size=held.tokenizer.get_vocab_size(), rop=True, seed=1)
        for part in (held.train, held.dev)
        if part is not None
    )
    model = twil.load(folder)
    loop = options.train.model_copy(update={"precision": "fp32"})
    return Denoising(model, train, dev, loop, dev_rows=10_000, world=World()).evaluate()


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"--nproc-per-node 1, or twil --device cpu"), join_world("cuda"):
        pass
