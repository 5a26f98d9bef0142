"""Curves of a run: what is read of its log, and what is drawn."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from twil.cli.main import guard
from twil.cli.plot import command
from twil.config.loop import LOG
from twil.core.errors import ConfigError, DataError, MissingExtraError
from twil.core.installation import install_command
from twil.evaluation.reports.curves import Curves, draw_curves, read_curves, running_mean

RUNNER = CliRunner()
APP = typer.Typer()
APP.command("plot")(guard(command))
APP.callback()(lambda: None)  # a group, so that the command keeps its name


def step(number: int, **figures: Any) -> dict[str, Any]:
    figures = {"loss": 9.0 / number, "mlm_accuracy": 0.1, "lr": 1e-3, "tokens_per_second": 700.0, **figures}
    return {"event": "step", "step": number, "epoch": 1, **figures}


def evaluation(number: int, *, best: bool = False, **metrics: float) -> dict[str, Any]:
    return {"event": "evaluation", "step": number, "metrics": {"loss": 5.0, **metrics}, "best": best}


def write_log(path: Path, *events: dict[str, Any], tail: str = "") -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + tail, encoding="utf-8")
    return path


def test_figures_of_steps_and_evaluations_are_sorted_by_their_keys(tmp_path: Path) -> None:
    path = write_log(
        tmp_path / LOG,
        {"event": "started", "rows": 7},
        step(10),
        step(20, rop_accuracy=0.75),
        evaluation(20, best=True, macro_f1=0.5),
    )
    curves = read_curves(path)
    assert (curves.train["loss"].steps, curves.train["loss"].values) == ([10, 20], [0.9, 0.45])
    assert (curves.train["rop_accuracy"].steps, curves.train["rop_accuracy"].values) == ([20], [0.75])
    assert set(curves.dev) == {"loss", "macro_f1"}
    assert (curves.best, curves.last_step, curves.cut) == (20, 20, False)


@pytest.mark.parametrize("tail", ['{"event": "ste', '{"event": "step", "step": 30, "loss": 1.', "{"])
def test_a_cut_last_line_is_left_out_and_told(tmp_path: Path, tail: str) -> None:
    curves = read_curves(write_log(tmp_path / LOG, step(10), step(20), tail=tail))
    assert curves.cut
    assert curves.train["loss"].steps == [10, 20]


def test_a_line_that_is_whole_but_wrong_is_an_error_with_its_number(tmp_path: Path) -> None:
    path = write_log(tmp_path / LOG, step(10), tail='{"event": "ste\n')
    with pytest.raises(DataError, match="line 2"):
        read_curves(path)


@pytest.mark.parametrize(
    "line",
    [
        *("7", "[1, 2", '"a step"', '{"step": 4}', '{"event": "step", "step": "ten"}', "[" * 100_000),
        *('{"event": "step", "step": -1}', '{"event": "step", "step": 1000000000000000000000}'),
        '{"event": "evaluation", "step": 1, "metrics": [1]}',
    ],
    ids=range(9),
)
def test_json_that_is_no_event_is_an_error(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError, match="line 1"):
        read_curves(write_log(tmp_path / LOG, tail=f"{line}\n"))


def test_steps_that_were_taken_again_give_way_to_the_second_time(tmp_path: Path) -> None:
    path = write_log(
        tmp_path / LOG,
        *(step(10), step(20), evaluation(20), step(30, loss=8.0), step(40, loss=8.0), evaluation(40)),
        *(step(30, loss=1.0),),
    )
    curves = read_curves(path)
    assert curves.train["loss"].steps == [10, 20, 30]
    assert curves.train["loss"].values[-1] == 1.0
    assert curves.dev["loss"].steps == [20]


def test_an_evaluation_repeated_at_the_same_step_counts_once(tmp_path: Path) -> None:
    curves = read_curves(write_log(tmp_path / LOG, step(10), evaluation(10), evaluation(10, loss=3.0)))
    assert curves.dev["loss"].values == [3.0]


@pytest.mark.parametrize("place", ["model", "model.checkpoint"])
@pytest.mark.parametrize("asked", ["folder", "log", "name"])
def test_the_log_is_found_wherever_the_run_stands(tmp_path: Path, place: str, asked: str) -> None:
    folder = tmp_path / place
    folder.mkdir()
    path = write_log(folder / LOG, step(10))
    run = {"folder": folder, "log": path, "name": tmp_path / "model"}[asked]
    assert read_curves(run).path == path


@pytest.mark.parametrize("content", [None, "", '{"event": "started"}\n'])
def test_a_log_without_steps_is_an_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / LOG).write_text(content, encoding="utf-8")
    with pytest.raises(DataError):
        read_curves(tmp_path)


def test_running_mean_keeps_a_straight_line_and_evens_out_a_zigzag() -> None:
    line = [float(number) for number in range(10)]
    assert running_mean(line, 2)[:8] == line[:8]
    assert running_mean([1.0, 3.0] * 10, 1)[1:-1] == pytest.approx([5 / 3, 7 / 3] * 9)
    assert running_mean([], 3) == []


def test_a_value_that_is_not_finite_spoils_the_means_that_it_is_part_of_alone() -> None:
    for bad in (math.nan, math.inf):
        means = running_mean([1.0, 1.0, 1.0, 1.0, bad, 1.0, 1.0, 1.0], 1)
        assert [math.isfinite(mean) for mean in means] == [True] * 3 + [False] * 3 + [True] * 2


def test_the_running_mean_of_a_run_of_a_million_lines_takes_no_time() -> None:
    begin = time.process_time()
    means = running_mean([float(number % 7) for number in range(1_000_000)], 20_000)
    assert time.process_time() - begin < 10  # minutes, were every mean summed up anew
    assert means[500_000] == pytest.approx(3.0, abs=1e-3)


def full_curves(path: Path, steps: int = 300) -> Curves:
    events = [step(number, rop_accuracy=0.5) for number in range(1, steps + 1)]
    return read_curves(
        write_log(path, *events, evaluation(steps, best=True, mlm_accuracy=0.2, rop_accuracy=0.6))
    )


@pytest.mark.parametrize(
    ("ending", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")]
)
def test_the_ending_decides_the_format(tmp_path: Path, ending: str, start: bytes) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    output = tmp_path / f"curves{ending}"
    titles = draw_curves({"run": full_curves(tmp_path / LOG)}, output)
    assert output.read_bytes().startswith(start)
    assert len(titles) == 5
    assert {path.name for path in tmp_path.iterdir()} == {LOG, output.name}


def test_the_same_log_gives_the_same_drawing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    curves = full_curves(tmp_path / LOG)
    for name in ("one.svg", "other.svg"):
        draw_curves({"run": curves}, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


def test_only_what_the_log_has_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    curves = read_curves(write_log(tmp_path / LOG, step(10), step(20)))
    assert "Accuracy of reply order" not in draw_curves({"run": curves}, tmp_path / "curves.svg")
    finite = read_curves(write_log(tmp_path / LOG, step(10, loss=float("nan")), step(20)))
    draw_curves({"run": finite}, tmp_path / "gap.svg")
    odd = read_curves(write_log(tmp_path / LOG, {"event": "step", "step": 1, "entropy": 2.0}))
    with pytest.raises(DataError, match="entropy"):
        draw_curves({"run": odd}, tmp_path / "nothing.svg")
    assert not (tmp_path / "nothing.svg").exists()


def test_scores_on_dev_of_several_runs_lie_over_each_other(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    for name, best in (("uno", 0.5), ("dos", 0.75)):
        (tmp_path / name).mkdir()
        fine = {"event": "step", "step": 10, "loss": 0.5, "lr": 1e-3}
        write_log(tmp_path / name / LOG, fine, evaluation(10, best=True, macro_f1=best, accuracy=best))
    output = tmp_path / "curves.svg"
    arguments = ["plot", str(tmp_path / "uno"), f"tres={tmp_path / 'dos'}", "-o", str(output)]
    done = RUNNER.invoke(APP, arguments)
    assert "loss, macro-f1, accuracy, learning rate; 10, 10 steps" in done.stderr, done.output
    drawn = output.read_text(encoding="utf-8")
    for label in ("uno: train", "uno: dev", "uno: dev, best", "tres: dev"):
        assert f"<!-- {label} -->" in drawn


def test_another_ending_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.png, \.svg, \.pdf"):
        draw_curves({"run": full_curves(tmp_path / LOG, steps=2)}, tmp_path / "curves.gif")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    curves = full_curves(tmp_path / LOG, steps=2)
    with pytest.raises(MissingExtraError, match=rf"{re.escape(install_command('plot'))}"):
        draw_curves({"run": curves}, tmp_path / "curves.png")


def test_command_draws_and_says_so(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    run = tmp_path / "model.checkpoint"
    run.mkdir()
    write_log(run / LOG, step(10), step(1000), tail='{"ev')
    output = tmp_path / "curves.svg"
    arguments = ["plot", str(run), "-o", str(output)]
    done = RUNNER.invoke(APP, arguments)
    assert done.exit_code == 0, done.output
    assert "1,000 steps" in done.stderr
    assert "cut" in done.stderr
    assert output.stat().st_size > 1000
    again = RUNNER.invoke(APP, arguments)
    assert again.exit_code == 1
    assert "--force" in again.stderr
    assert RUNNER.invoke(APP, [*arguments, "--force", "-q"]).exit_code == 0


@pytest.mark.parametrize("target", ["curves.txt", "no/curves.png", ""])
def test_an_output_that_cannot_be_is_one_line(tmp_path: Path, target: str) -> None:
    write_log(tmp_path / LOG, step(10))
    done = RUNNER.invoke(APP, ["plot", str(tmp_path), "-o", str(tmp_path / target)])
    assert done.exit_code == 1
    assert done.stderr.startswith("twil: error: ")
    assert done.stderr.count("\n") == 1


def test_a_run_that_is_none_is_one_line(tmp_path: Path) -> None:
    done = RUNNER.invoke(APP, ["plot", str(tmp_path / "ninguno"), "-o", str(tmp_path / "curves.png")])
    assert done.exit_code == 1
    assert LOG in done.stderr
