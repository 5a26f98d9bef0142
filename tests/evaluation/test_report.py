"""Reports of runs: what is examined, what the page says of it, and what is refused."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import typer
from browser import look, needs_browser
from conftest import write_rows
from typer.testing import CliRunner, Result

from twil.cli.main import guard
from twil.cli.report import command
from twil.config.loop import LOG
from twil.config.training import finetune_config
from twil.core.errors import ConfigError, DataError, ModelError
from twil.core.task import Task
from twil.evaluation.pages.document import write_page
from twil.evaluation.reports.examination import Examination, examine, row_losses
from twil.evaluation.reports.run_charts import (
    answer_charts,
    calibration_charts,
    curve_charts,
    together_chart,
)
from twil.evaluation.reports.run_page import make_report
from twil.evaluation.reports.verdict import judge, read_baseline
from twil.scores.calibration import reliability
from twil.train.finetune import finetune_events
from twil.train.series import Run, Series

RUNNER = CliRunner()
APP = typer.Typer()
APP.command("report")(guard(command))
APP.callback()(lambda: None)

NASTY = "<script>alert(1)</script> & \"comillas\" 'así'"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;comillas&#34; &#39;así&#39;"
GOOD, BAD = '<b>P</b> & "sí"', "N"
TEXTS = ["qué día tan bonito", "gracias por venir", "me encanta el plan", NASTY]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> Path:
    """Give the folder of a run that nobody changes: model, and the files that it learned from."""
    folder = tmp_path_factory.mktemp("run")
    rows = [(text, GOOD) for text in TEXTS] + [(f"no {text}", BAD) for text in TEXTS]
    train = write_rows(folder / "train.tsv", rows * 3)
    dev = write_rows(folder / "dev <i>.tsv", [*rows, ("ni fu ni fa", BAD)])
    config = finetune_config(
        None,
        {
            "data": {"train": train, "dev": dev},
            "model": {"init": "tiny", "tokenizer": tokenizer_file, "encoder": {"n_layers": 1}},
            "train": {"epochs": 2, "batch_tokens": 128, "lr": 1e-3, "log_steps": 1},
        },
    )
    list(finetune_events(config, folder / "model"))
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Give a copy of the model folder, whose files are where they were."""
    return Path(shutil.copytree(trained / "model", tmp_path / "model"))


@pytest.fixture
def moved(trained: Path, run: Path) -> Path:
    """Give a run whose dev file lies beside it and may be changed."""
    dev = run.parent / "dev.tsv"
    shutil.copyfile(trained / "dev <i>.tsv", dev)
    edit(run, lambda record: record["data"]["dev"].update(file=str(dev)))
    return run


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    change(record)
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")


def numbers(page: str, name: str) -> list[str]:
    """Give the numbers of the first row of that name in any table."""
    row = re.search(rf'<tr><th scope="row">{re.escape(name)}</th>(.*?)</tr>', page)
    assert row, name
    return re.findall(r'<td class="number">([^<]*)', row[1])


def report(*arguments: object) -> Result:
    return RUNNER.invoke(APP, ["report", *map(str, arguments)])


def fails(result: Result, *said: str) -> None:
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("twil: error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for part in said:
        assert part in result.stderr


class TestExamination:
    def test_the_model_answers_as_it_did_at_the_end_of_the_run(self, run: Path) -> None:
        examined = examine(run)
        recorded = json.loads((run / "run.json").read_text())["results"]["dev"]
        assert examined.report.as_dict() == recorded
        assert examined.source.split == "dev"
        assert len(examined.answers) == len(examined.labelled) == 9

    def test_the_mean_of_the_losses_is_the_loss_on_dev(self, run: Path) -> None:
        examined = examine(run)
        best = examined.record.history[(examined.record.best_epoch or 0) - 1]
        assert examined.losses.mean() == pytest.approx(best["dev_loss"], abs=1e-5)

    def test_the_worst_of_the_wrong_rows_come_first(self, run: Path) -> None:
        examined = examine(run)
        answers = zip(examined.answers, examined.labelled.labels, strict=True)
        wrong = [row for row, (answer, true) in enumerate(answers) if answer != true]
        assert sorted(examined.worst(100)) == wrong
        losses = examined.losses[examined.worst(3)].tolist()
        assert losses == sorted(examined.losses[wrong], reverse=True)[:3]

    def test_a_row_is_explained_by_its_answer_without_each_word(self, run: Path) -> None:
        examined = examine(run)
        row = examined.worst(1)[0]
        found = examined.explain(row)
        assert found.text == examined.labelled.texts[row]
        assert (found.label, len(found.words)) == (examined.answers[row], len(str(found.text).split()))
        assert found.score == pytest.approx(examined.scores[row].max(), abs=1e-6)

    def test_a_file_that_has_changed_since_is_refused(self, moved: Path) -> None:
        with (moved.parent / "dev.tsv").open("a", encoding="utf-8") as file:
            file.write(f"99\tuna más\t{BAD}\n")
        with pytest.raises(DataError, match="changed since the run"):
            examine(moved)
        examined = examine(moved, data=moved.parent / "dev.tsv")
        assert (examined.source.split, len(examined.labelled)) == (None, 10)

    def test_a_file_that_is_gone_is_refused(self, moved: Path) -> None:
        (moved.parent / "dev.tsv").unlink()
        with pytest.raises(DataError, match=r"dev\.tsv: the dev file of the run is not here.*--data"):
            examine(moved)

    def test_a_set_is_known_by_its_bytes_wherever_it_lies(self, moved: Path) -> None:
        (moved.parent / "dev.tsv").rename(moved.parent / "other.tsv")
        assert examine(moved, data=moved.parent / "other.tsv").source.split == "dev"

    def test_sets_that_the_run_has_not_are_refused(self, run: Path) -> None:
        with pytest.raises(ModelError, match="records no test file"):
            examine(run, split="test")
        with pytest.raises(ConfigError, match="there is no set 'all'"):
            examine(run, split="all")

    def test_without_a_record_a_file_has_to_be_given(self, trained: Path, run: Path) -> None:
        (run / "run.json").unlink()
        (run / LOG).unlink()
        with pytest.raises(ModelError, match="records no dev file: name one with --data"):
            examine(run)
        page = make_report(examine(run, data=trained / "dev <i>.tsv"))
        assert "The run recorded no such file" in page
        assert "Learning curves" not in page

    @pytest.mark.parametrize(
        "change",
        [
            lambda record: record.update(data={"dev": "dev.tsv"}),
            lambda record: record.update(history=[{"epoch": "first"}]),
            lambda record: record.update(config=7),
            lambda record: record["data"]["dev"].pop("sha256"),
        ],
        ids=["data", "history", "config", "sha256"],
    )
    def test_a_record_of_another_form_is_one_clear_error(
        self, run: Path, change: Callable[[dict[str, Any]], object]
    ) -> None:
        edit(run, change)
        with pytest.raises(ModelError, match=r"run\.json is not what twil wrote"):
            examine(run)


class TestLosses:
    def test_they_are_those_of_torch(self) -> None:
        rng = np.random.default_rng(0)
        logits = rng.normal(scale=3, size=(20, 3)).astype(np.float32)
        one, many, number = (
            Task("class", ("a", "b", "c")),
            Task("multi-label", ("a", "b", "c")),
            Task("regression", ("x",)),
        )
        targets = rng.integers(3, size=20)
        expected = F.cross_entropy(torch.tensor(logits), torch.tensor(targets), reduction="none")
        assert row_losses(one.probabilities(logits), targets, one) == pytest.approx(expected, abs=1e-4)
        flags = rng.integers(2, size=(20, 3)).astype(np.float32)
        each = F.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(flags), reduction="none")
        assert row_losses(many.probabilities(logits), flags, many) == pytest.approx(each.mean(1), abs=1e-4)
        values = rng.normal(size=20).astype(np.float32)
        squares = (logits[:, 0] - values) ** 2
        assert row_losses(logits[:, :1], values, number) == pytest.approx(squares, abs=1e-5)

    def test_certainty_that_is_wrong_costs_a_finite_number(self) -> None:
        scores = np.array([[1.0, 0.0]], dtype=np.float32)
        losses = row_losses(scores, np.array([1]), Task("class", ("a", "b")))
        assert 80 < losses[0] < math.inf


class TestCharts:
    def of(
        self, examined: Examination, task: Task, scores: list[list[float]], targets: list[Any]
    ) -> Examination:
        values = np.array(scores, dtype=np.float32)
        answers = task.decode(np.log(values / (1 - values)) if task.kind == "multi-label" else values).labels
        return replace(
            examined,
            task=task,
            scores=values,
            targets=np.array(targets, dtype=np.float32),
            answers=answers,
        )

    def test_rows_of_many_labels_are_counted_by_true_and_answered_label(self, run: Path) -> None:
        task = Task("multi-label", ("ira", "miedo"))
        examined = self.of(examine(run), task, [[0.9, 0.8], [0.7, 0.1], [0.2, 0.3]], [[1, 0], [1, 1], [0, 1]])
        assert examined.answered.tolist() == [[1, 1], [1, 0], [0, 0]]
        assert together_chart(examined).numbers.rows == [["ira", 2, 1], ["miedo", 1, 0]]
        shares = re.findall(r"\((\d+\.\d) ?%\)", str(together_chart(examined).drawing))
        assert shares == ["100.0", "50.0", "50.0", "0.0"]
        assert examined.reliability is not None
        assert examined.reliability.counts.sum() == 6

    def test_a_regression_is_drawn_as_points_and_differences(self, run: Path) -> None:
        examined = self.of(examine(run), Task("regression", ("x",)), [[0.1], [0.5], [0.9]], [0.0, 0.5, 1.0])
        points, differences = answer_charts(examined)
        assert str(points.drawing).count("<circle") == 3
        assert "0.0000 to 0.0000" in points.numbers.rows[0]
        assert sum(row[1] for row in differences.numbers.rows) == 3
        assert examined.reliability is None

    def test_large_clouds_are_drawn_in_part_and_say_so(self, run: Path) -> None:
        rows = np.linspace(0, 1, 2500)
        examined = self.of(examine(run), Task("regression", ("x",)), rows[:, None].tolist(), rows.tolist())
        points = next(answer_charts(examined))
        assert "2,000 rows drawn by lot" in points.title
        assert str(points.drawing).count("<circle") == 2000

    def test_empty_bins_are_not_drawn(self) -> None:
        found = reliability(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
        chart, given = calibration_charts(found, many=False)
        assert str(chart.drawing).count("<circle") == 2
        assert "NaN" not in str(chart.drawing)
        assert "nan" not in str(chart.drawing)
        assert str(given.drawing).count("<rect") == len(found.counts)

    def test_many_steps_of_a_log_are_averaged(self, run: Path) -> None:
        lines = [
            {"event": "step", "step": step, "loss": float(step % 2), "lr": 1e-4} for step in range(1, 241)
        ]
        (run / LOG).write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        charts = {chart.title: chart for chart in curve_charts(examine(run))}
        found = charts["Loss of training steps, means of 4 in a row"].numbers
        assert found.rows == [[str(step), 0.5] for step in range(4, 241, 4)]
        assert "Learning rate, means of 4 in a row" in charts


class TestKinds:
    def run(self, folder: Path, tokenizer_file: Path, rows: list[str], header: str, **options: Any) -> Path:
        file = folder / "rows.tsv"
        file.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
        settings = {
            "data": {"train": file, "dev": file, **options.pop("data", {})},
            "model": {"init": "tiny", "tokenizer": tokenizer_file, "encoder": {"n_layers": 1}},
            "train": {"epochs": 1, "lr": 1e-3},
            **options,
        }
        list(finetune_events(finetune_config(None, settings), folder / "model"))
        return folder / "model"

    def test_many_labels_a_row_with_what_was_tuned(self, tmp_path: Path, tokenizer_file: Path) -> None:
        rows = ["qué rabia\tira", "qué miedo\tmiedo", "qué rabia y qué miedo\tira|miedo", "nada\t"] * 2
        options = {
            "data": {"task": "multi-label"},
            "decision": {"tune_threshold": "f1", "calibrate": "temperature"},
        }
        run = self.run(tmp_path, tokenizer_file, rows, "TEXT\tCLASS", **options)
        examined = examine(run)
        page = make_report(examined)
        assert "Rows by true and predicted labels" in page
        assert "Confusion matrix" not in page
        assert "probability of a label" in page
        assert "<dt>temperature of the probabilities</dt>" in page
        assert "after tuning" in page
        assert "Always no label: 0.0000. " in page
        assert "<p>There is none.</p>" in page
        examined = replace(examined, targets=1 - examined.targets)
        assert examined.wrong.all()
        row = examined.worst(1)[0]
        errors = np.abs(examined.scores[row] - examined.targets[row])
        assert examined.explain(row).label == examined.task.labels[errors.argmax()]

    def test_a_regression(self, tmp_path: Path, tokenizer_file: Path) -> None:
        rows = [f"chiste número {number}\t{number / 2}" for number in range(8)]
        run = self.run(tmp_path, tokenizer_file, rows, "TEXT\tCLASS", data={"task": "regression"})
        page = make_report(examine(run))
        assert len(numbers(page, "Pearson correlation")) == 2
        assert "Answers minus true values" in page
        assert "Calibration" not in page
        assert "squared difference" in page

    def test_pairs_show_both_texts_and_a_stance_is_judged_by_its_own_score(
        self, tmp_path: Path, tokenizer_file: Path
    ) -> None:
        rows = ["la ley\tqué mala\tAGAINST", "la ley\tpor fin\tFAVOR", "la ley\tno sé\tNONE"] * 2
        data = {"task": "stance", "text": "A", "text_pair": "B"}
        run = self.run(tmp_path, tokenizer_file, rows, "A\tB\tCLASS", data=data)
        page = make_report(examine(run))
        assert len(numbers(page, "F1 of the stances")) == 2
        assert page.count("<blockquote") == 2 * len(examine(run).worst(20))
        assert "stance of AGAINST, FAVOR, NONE" in page


class TestVerdict:
    def test_the_score_stands_beside_the_most_frequent_label(self, run: Path) -> None:
        examined = examine(run)
        found = judge(examined)
        assert (found.metric, found.rows) == ("macro_f1", 9)
        assert found.score.value == pytest.approx(examined.report.metrics["macro_f1"])
        assert found.score.low <= found.score.value <= found.score.high
        (always,) = found.references
        assert always.name == f"Always {BAD}, the most frequent label"
        assert always.score == pytest.approx(5 / 7 / 2)  # F1 of one of two labels: 2 * 5 / (9 + 5)
        assert "<h2>Verdict</h2>" in make_report(examined)

    def test_predictions_of_another_model_are_compared_row_by_row(self, run: Path, tmp_path: Path) -> None:
        examined = examine(run)
        other = tmp_path / "other.tsv"
        other.write_text("\n".join(["label", *examined.labelled.labels, ""]), encoding="utf-8")
        *_, reference = judge(examined, read_baseline(other)).references
        assert (reference.name, reference.score) == ("other.tsv", 1)
        assert reference.difference is not None
        assert reference.difference.high < 0
        page = make_report(examined, baseline=read_baseline(other))
        assert "other.tsv: 1.0000. This run is below it by -" in page
        other.write_text("label\nN\n", encoding="utf-8")
        with pytest.raises(DataError, match=r"other\.tsv: has 1 rows, and 9 are reported on"):
            judge(examined, read_baseline(other))
        other.write_text("\n".join(["label", *"NNNNNNNNX", ""]), encoding="utf-8")
        with pytest.raises(DataError, match=r"other\.tsv.*'X' is none of"):
            judge(examined, read_baseline(other))
        other.write_text("answer\nN\n", encoding="utf-8")
        with pytest.raises(DataError, match="no column label or value"):
            read_baseline(other)

    def test_scores_alone_have_no_interval_of_the_difference(self, run: Path, tmp_path: Path) -> None:
        scores = tmp_path / "scores.json"
        scores.write_text('{"report": {"metrics": {"macro_f1": 0.5}}}')
        page = make_report(examine(run), baseline=read_baseline(scores))
        assert "scores.json: 0.5000. Its predictions are not known" in page
        scores.write_text('{"report": {"metrics": {"accuracy": 0.5}}}')
        with pytest.raises(DataError, match="has no score macro_f1"):
            judge(examine(run), read_baseline(scores))
        scores.write_text('{"scores": 1}')
        with pytest.raises(DataError, match="holds no scores as twil evaluate --json prints them"):
            read_baseline(scores)


class TestPage:
    def test_it_holds_what_the_run_is_worth(self, run: Path) -> None:
        examined = examine(run)
        page = make_report(examined)
        accuracy = f"{examined.report.metrics['accuracy']:.4f}"
        assert numbers(page, "accuracy") == [accuracy, accuracy]  # as it is, and as the run recorded it
        assert examined.reliability is not None
        assert f"Expected calibration error {examined.reliability.error:.4f}" in page
        for title in ("Learning curves", "Confusion matrix", "Scores by label", "Settings", "Data", "Model"):
            assert f">{title}</" in page
        assert examined.source.sha256 in page
        assert "<dt>train.lr</dt><dd>0.001</dd>" in page
        assert str(run.parent) not in page  # nor any other path
        assert str(Path(examined.record.data["train"].file).parent) not in page
        links = re.findall(r'<a href="#([^"]+)">', page)
        assert links[:2] == ["scores", "learning-curves"]
        assert all(f'<section id="{link}">' in page for link in links)

    def test_texts_labels_and_file_names_cannot_bring_elements(self, run: Path) -> None:
        page = make_report(examine(run))
        assert {"script", "b", "i"}.isdisjoint(re.findall(r"<(\w+)", page))
        quoted = [re.sub("<[^>]+>", "", each) for each in re.findall("<blockquote.*?</blockquote>", page)]
        assert ESCAPED in quoted
        assert "&lt;b&gt;P&lt;/b&gt; &amp; &#34;sí&#34;" in page
        assert "dev &lt;i&gt;.tsv" in page
        assert not re.search(r"://|url\(|@import", page)

    def test_texts_can_be_left_out(self, run: Path) -> None:
        page = make_report(examine(run), texts=False)
        assert "blockquote>" not in page
        assert not any(text in page for text in (*TEXTS, ESCAPED))
        assert page.count("<dt>line</dt>") == len(examine(run).worst(20)) == 4

    def test_as_many_of_the_worst_rows_are_shown_as_asked_for(self, run: Path) -> None:
        examined = examine(run)
        page = make_report(examined, worst=3)
        lines = [examined.labelled.lines[row] for row in examined.worst(3)]
        assert re.findall(r"<dt>line</dt><dd>(\d+)", page) == [str(line) for line in lines]
        assert "largest loss" not in make_report(examined, worst=0)

    def test_evaluations_within_an_epoch_are_drawn_by_step(self, run: Path) -> None:
        def change(record: dict[str, Any]) -> None:
            record["history"][1]["epoch"] = 1

        def across() -> str:
            return next(curve_charts(examine(run))).numbers.columns[0]

        assert across() == "epoch"
        edit(run, change)
        assert across() == "step"

    def test_several_runs_are_told_with_their_spread(self, run: Path) -> None:
        assert "<h2>Runs</h2>" not in make_report(examine(run))
        values = (0.5, 0.7)
        runs = [Run(seed, "macro_f1", seed, {"macro_f1": value}, {}) for seed, value in enumerate(values, 1)]
        edit(run, lambda record: record.update(runs=Series("macro_f1", tuple(runs)).as_dict()))
        page = make_report(examine(run))
        assert "the run with seed 2, of 2 the best on dev" in page
        assert numbers(page, "mean")[-1] == "0.6000"
        assert numbers(page, "standard deviation")[-1] == "0.1414"
        edit(run, lambda record: record.update(runs={"metric": "macro_f1"}))
        with pytest.raises(ModelError, match="does not tell of several runs"):
            make_report(examine(run))

    @needs_browser
    @pytest.mark.parametrize("width", [390, 1200])
    def test_a_browser_opens_it_without_a_complaint(self, run: Path, tmp_path: Path, width: int) -> None:
        (tmp_path / "site").mkdir()
        write_page(tmp_path / "site" / "report.html", make_report(examine(run)))
        seen = look(tmp_path / "site" / "report.html", tmp_path / "profile", width=width)
        assert (seen.console, seen.fetched, seen.scripts) == ([], [], 0)
        assert seen.width <= width
        assert len(seen.sizes) == 8
        assert all(300 < wide <= width and high > 60 for wide, high in seen.sizes)
        assert NASTY in seen.text


class TestCommand:
    def test_it_writes_the_page_beside_the_run(self, run: Path) -> None:
        done = report(run)
        assert (done.exit_code, done.stdout) == (0, "")
        assert "wrote" in done.stderr
        assert "texts of rows that were predicted wrongly" in done.stderr
        assert (run.parent / "model.html").read_text(encoding="utf-8").startswith("<!doctype html>")

    def test_nothing_is_replaced_unless_asked_for(self, run: Path) -> None:
        target = run.parent / "page.html"
        target.write_text("mine", encoding="utf-8")
        fails(report(run, "-o", target), "is there already", "--force")
        assert target.read_text(encoding="utf-8") == "mine"
        assert report(run, "-o", target, "--force", "--quiet").stderr == ""
        assert target.read_text(encoding="utf-8") != "mine"

    def test_a_file_that_the_run_does_not_know_is_told(self, run: Path, tmp_path: Path) -> None:
        other = write_rows(tmp_path / "other.tsv", [("hola", BAD), ("adiós", GOOD)])
        done = report(run, "--data", other, "--no-texts")
        assert done.exit_code == 0
        assert "is none of the files that the run recorded" in done.stderr
        assert "personal" not in done.stderr

    def test_what_cannot_be_reported_is_one_line_and_leaves_nothing(self, run: Path, tmp_path: Path) -> None:
        other = write_rows(tmp_path / "other.tsv", [("hola", "regular")])
        fails(report(run, "--data", other), "other.tsv, line 2", "'regular'")
        fails(report(run, "--data", tmp_path / "none.tsv"), "there is no such file")
        fails(report(tmp_path / "nowhere"), "there is no model folder")
        fails(report(run, "--split", "test"), "records no test file")
        fails(report(run, "--split", "dev", "--data", other), "leave one of them out")
        fails(report(run, "-o", tmp_path / "page.md"), "page.md is named otherwise", "ending .html")
        fails(report(run, "-o", tmp_path / "no" / "page.html"), "there is no folder")
        assert sorted(file.name for file in tmp_path.iterdir()) == ["model", "other.tsv"]
