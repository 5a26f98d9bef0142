"""Several processes that share each step do what one process does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import SHAPE, make_corpus
from safetensors.torch import load_file

import twil
from twil.config.training import LOG
from twil.train.run_log import read_log

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, examples: Path, tokenizer_file: Path) -> Path:
    return make_corpus(examples, tokenizer_file, tmp_path_factory.mktemp("corpus") / "corpus", dev=0.05)


@pytest.fixture
def run_file(corpus: Path, tmp_path: Path) -> Path:
    # 85 rows a step and a last step that is smaller: no number of rows is even, nor are their pieces.
    shape = "".join(f"{name} = {value}\n" for name, value in SHAPE.items())
    path = tmp_path / "run.toml"
    path.write_text(
        f'[data]\ncorpus = "{corpus}"\n[model.encoder]\n{shape}'
        "[train]\nepochs = 2\nbatch_rows = 85\nbatch_tokens = 700\n"
        'precision = "fp32"\nlr = 3e-3\nlog_steps = 1\n',
        encoding="utf-8",
    )
    return path


def command(processes: int, *arguments: str) -> list[str]:
    if processes == 1:
        return [sys.executable, "-m", "twil", "pretrain", *arguments]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", port]
    return [sys.executable, *launcher, "-m", "twil", "pretrain", *arguments]


def run(processes: int, *arguments: str) -> str:
    done = subprocess.run(
        command(processes, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


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


def test_two_processes_asked_to_stop_go_on_exactly(run_file: Path, tmp_path: Path) -> None:
    dropout = ["--set", "model.encoder.output_dropout=0.1", "--set", "train.epochs=3"]
    run(2, str(run_file), *dropout, "-o", str(tmp_path / "whole"))
    part = [str(run_file), *dropout, "-o", str(tmp_path / "part")]
    process = subprocess.Popen(
        command(2, *part),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    log = tmp_path / "part.checkpoint" / LOG
    deadline = time.monotonic() + 60
    while not (log.is_file() and len(log.read_text().splitlines()) > 3):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=90)
    assert not (tmp_path / "part").exists()
    assert "continuing after step" in run(2, *part, "--resume")
    whole, rest = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(whole[name], rest[name]) for name in whole)
