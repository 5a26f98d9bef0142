"""The log of a run: what is written when, and what is left of it when a run goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twil.core.errors import ModelError
from twil.train import run_log
from twil.train.loop import Evaluated, StepDone
from twil.train.run_log import RunLog, read_log


def step(number: int, *, steps: int = 20) -> StepDone:
    counts = {"rows": 8.0, "tokens": 100.0, "masked": 15.0, "ordered": 4.0}
    return StepDone(number, steps, 1, 2, 1 / number, 1e-3, counts, {"mlm_loss": 0.5})


def evaluation(number: int) -> Evaluated:
    return Evaluated(number, 1, 0.5, {"loss": 0.25}, best=True, last=False, seconds=3.0, number=1)


def names(path: Path) -> list[tuple[str, int]]:
    return [(line["event"], line["step"]) for line in read_log(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.checkpoint" / "log.jsonl"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(run_log.time, "monotonic", lambda: now[0])
    return now


def write(path: Path, events: list[StepDone | Evaluated]) -> None:
    log = RunLog(path, True, every=1)
    with log.open(0, 0.0):
        for event in events:
            log.add(event)


def test_every_so_many_steps_and_the_last_have_a_line(path: Path) -> None:
    log = RunLog(path, True, every=4)
    with log.open(0, 0.0):
        for number in range(1, 11):
            log.add(step(number, steps=10))
            if number == 6:
                log.add(evaluation(6))
    assert names(path) == [("step", 4), ("evaluation", 6), ("step", 8), ("step", 10)]


def test_speeds_are_those_of_all_rows_since_the_line_before(path: Path, clock: list[float]) -> None:
    log = RunLog(path, True, every=2)
    with log.open(0, 50.0):
        for number in range(1, 5):
            clock[0] += 2.0
            log.add(step(number))
            if number == 2:
                clock[0] += 100.0  # an evaluation is no time of training
                log.add(evaluation(2))
    first, measured, second = read_log(path)
    assert (first["seconds"], measured["seconds"], second["seconds"]) == (54.0, 154.0, 158.0)
    for line in (first, second):
        assert line["rows_per_second"] == pytest.approx(2 * 8 / 4)
        assert line["tokens_per_second"] == pytest.approx(2 * 100 / 4)


def test_a_continued_run_cuts_off_what_came_after_its_checkpoint(path: Path) -> None:
    write(path, [step(1), step(2), evaluation(2), step(3), step(4), evaluation(4)])
    log = RunLog(path, True, every=1)
    with log.open(3, 0.0, evaluation(2)):
        log.add(step(4))
    assert names(path) == [("step", 1), ("step", 2), ("evaluation", 2), ("step", 3), ("step", 4)]


def test_an_evaluation_that_a_kill_left_out_is_made_up_for_once(path: Path) -> None:
    write(path, [step(1), step(2)])
    for _ in range(2):
        with RunLog(path, True, every=1).open(2, 7.0, evaluation(2)):
            pass
    assert names(path) == [("step", 1), ("step", 2), ("evaluation", 2)]
    assert read_log(path)[-1]["metrics"] == {"loss": 0.25}
    assert read_log(path)[-1]["best"] is True


def test_a_new_run_begins_an_empty_log(path: Path) -> None:
    write(path, [step(1), step(2)])
    with RunLog(path, True, every=1).open(0, 0.0):
        pass
    assert path.read_bytes() == b""


def test_a_line_cut_by_a_kill_is_left_out_and_written_anew(path: Path) -> None:
    write(path, [step(1), step(2), step(3)])
    path.write_bytes(path.read_bytes()[:-9])
    assert names(path) == [("step", 1), ("step", 2)]
    log = RunLog(path, True, every=1)
    with log.open(2, 0.0):
        log.add(step(3))
    assert names(path) == [("step", 1), ("step", 2), ("step", 3)]


@pytest.mark.parametrize("damage", [b"\0\0\0\0", b"\xff\xfe", b"[1]", b'{"event": "step"}', b""])
def test_a_damaged_line_is_named(path: Path, damage: bytes) -> None:
    write(path, [step(1), step(2)])
    path.write_bytes(path.read_bytes() + damage + b"\n" + json.dumps({"step": 3}).encode() + b"\n")
    with pytest.raises(ModelError, match=r"log\.jsonl, line 3, .*remove it"):
        read_log(path)


def test_a_log_that_is_gone_is_no_obstacle(path: Path) -> None:
    log = RunLog(path, True, every=1)
    with log.open(5, 0.0):
        log.add(step(6))
    assert names(path) == [("step", 6)]


def test_a_process_that_is_not_the_main_one_writes_nothing(path: Path) -> None:
    log = RunLog(path, False, every=1)
    with log.open(0, 0.0):
        log.add(step(1))
        log.add(evaluation(1))
    assert not path.parent.exists()
