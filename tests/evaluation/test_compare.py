"""Models side by side: the same rows for all, whatever computes them and however they order their labels."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from browser import look, needs_browser
from bundles import POLARITY, write_bundle
from click.testing import Result
from conftest import write_rows
from onnx import numpy_helper
from typer.testing import CliRunner

from twil.bundle.architecture import ARCHITECTURE_KEY, Architecture
from twil.bundle.bundle import open_bundle
from twil.bundle.names import name_models
from twil.bundle.session import Session
from twil.cli.main import make_app
from twil.core.errors import ConfigError, DataError, ModelError
from twil.core.task import Task
from twil.data.labelled import LabelledColumns
from twil.evaluation.classifiers import Answered, Classifier, open_classifier
from twil.evaluation.compare import Answering, compare_events
from twil.evaluation.comparison import Comparison, Entry
from twil.evaluation.evaluate import evaluate
from twil.evaluation.reports.comparison_files import to_markdown, write_comparison
from twil.evaluation.reports.comparison_page import make_comparison_page
from twil.evaluation.reports.comparison_tables import speed_grid
from twil.inference.predictor import Predictor

STARTS = ("qué alegría", "menudo desastre", "ni frío ni calor", "otra vez lunes", "por fin vacaciones")
ENDS = ("en el barrio", "con mis primas", "esperando el bus", "y sin café", "ya era hora", "madre mía")
TEXTS = [f"{start} {end} {number}" for number in range(4) for start in STARTS for end in ENDS]
EMOTIONS = Task("multi-label", ("ira", "miedo", "pena"), thresholds=(0.4, 0.5, 0.6))
VALENCE = Task("regression", ("value",))
FEW = 400  # samples, so that tests are fast


def reordered(order: Sequence[int]) -> Callable[[onnx.ModelProto], None]:
    """Put a classifier's outputs in another order."""

    def change(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name in ("kernel", "bias"):
                value = numpy_helper.to_array(tensor)[..., list(order)]
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))

    return change


def label_by(bundle: Path, file: Path, *, wrong: int = 0, pair: bool = False) -> Path:
    """Label texts as a model does, but for so many rows at the start."""
    predictor = Predictor(bundle, provider="cpu")
    items = [(text, text[::-1]) for text in TEXTS] if pair else TEXTS
    labels = [found.label for found in predictor(items)]
    names = predictor.task.labels
    for row in range(wrong):
        labels[row] = names[(names.index(labels[row]) + 1) % len(names)]
    return write_rows(file, list(zip(TEXTS, labels, strict=True)))


def found_by(*arguments: Any, **options: Any) -> Comparison:
    *_, last = compare_events(*arguments, **{"resamples": FEW, "device": "cpu", **options})
    assert isinstance(last, Comparison)
    return last


def values_of(entry: Entry) -> dict[str, float]:
    return {name: found.value for name, found in entry.intervals.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with three bundles, and a file on which `a` has all but six rows right."""
    folder = tmp_path_factory.mktemp("compare")
    for seed, name in enumerate("abc"):
        write_bundle(folder / name, seed=seed)
    label_by(folder / "a", folder / "dev.tsv", wrong=6)
    return folder


@pytest.fixture(scope="module")
def comparison(folder: Path) -> Comparison:
    return found_by(folder / "dev.tsv", [folder / name for name in "cab"])


class TestFigures:
    def test_every_score_is_that_of_an_evaluation(self, folder: Path, comparison: Comparison) -> None:
        assert comparison.rows == len(TEXTS)
        for entry in comparison.entries:
            report = evaluate(entry.path, folder / "dev.tsv", device="cpu").report
            assert entry.report == report
            assert {name: found.value for name, found in entry.intervals.items()} == pytest.approx(
                report.metrics
            )
            assert all(found.low <= found.value <= found.high for found in entry.intervals.values())

    def test_the_best_comes_first_and_is_better_than_the_others(self, comparison: Comparison) -> None:
        assert comparison.metric == "macro_f1"
        assert comparison.entries[0].name == "a"
        assert comparison.entries[0].intervals["accuracy"].value == 1 - 6 / len(TEXTS)
        assert sorted(comparison.worse_than("a")) == ["b", "c"]
        assert "a" not in comparison.worse_than("b") + comparison.worse_than("c")

    def test_each_two_are_compared_once(self, comparison: Comparison) -> None:
        names = [entry.name for entry in comparison.entries]
        assert [(pair.first, pair.second) for pair in comparison.pairs] == [
            (names[0], names[1]),
            (names[0], names[2]),
            (names[1], names[2]),
        ]
        values = {entry.name: entry.intervals["macro_f1"].value for entry in comparison.entries}
        for pair in comparison.pairs:
            assert pair.difference.value == pytest.approx(values[pair.first] - values[pair.second])
            assert pair.difference.low <= pair.difference.value <= pair.difference.high
            assert pair.mcnemar is not None
            assert 0 < pair.bootstrap.p <= pair.bootstrap.holm <= 1
            assert pair.mcnemar.p <= pair.mcnemar.holm <= 1

    def test_rows_that_one_alone_has_right_are_counted(self, folder: Path, comparison: Comparison) -> None:
        rows = (folder / "dev.tsv").read_text(encoding="utf-8").splitlines()[1:]
        true = [row.split("\t")[2] for row in rows]
        said = {name: [found.label for found in Predictor(folder / name)(TEXTS)] for name in "abc"}
        for pair in comparison.pairs:
            rows = list(zip(said[pair.first], said[pair.second], true, strict=True))
            assert pair.first_right == sum(one == label != other for one, other, label in rows)
            assert pair.second_right == sum(one != label == other for one, other, label in rows)

    def test_the_same_seed_draws_the_same_samples(self, folder: Path) -> None:
        models = [folder / "a", folder / "b"]
        one, same, other = (found_by(folder / "dev.tsv", models, seed=seed) for seed in (3, 3, 4))
        assert one.pairs == same.pairs
        assert one.pairs != other.pairs

    def test_another_metric_decides(self, folder: Path) -> None:
        found = found_by(folder / "dev.tsv", [folder / "b", folder / "a"], metric="recall:NEU")
        (pair,) = found.pairs
        recall = {entry.name: entry.report.labels["NEU"]["recall"] for entry in found.entries}
        assert pair.difference.value == pytest.approx(recall[pair.first] - recall[pair.second])
        assert "recall:NEU" in to_markdown(found)

    def test_the_first_rows_are_answered_before_the_time_is_taken(self) -> None:
        asked: list[int] = []

        class Counting(Classifier):
            def close(self) -> None: ...

            def _compute(self, rows: Sequence[Any]) -> tuple[Any, int]:
                asked.append(len(rows))
                return np.zeros((len(rows), 2), np.float32), 1

        answered = Counting().answer(TEXTS)
        assert isinstance(answered, Answered)
        assert asked == [32, len(TEXTS)]
        assert (len(answered.logits), answered.truncated) == (len(TEXTS), 1)


class TestTasks:
    def test_labels_in_another_order_change_nothing(self, folder: Path, tmp_path: Path) -> None:
        order = (2, 0, 1)
        task = Task("class", tuple(POLARITY.labels[place] for place in order))
        turned = write_bundle(tmp_path / "turned", task, seed=1, change=reordered(order))
        found = found_by(folder / "dev.tsv", [folder / "b", turned])
        one, other = (entry.intervals for entry in found.entries)
        assert one == other
        (pair,) = found.pairs
        assert (pair.difference.value, pair.bootstrap.p) == (0, 1)
        assert (pair.first_right, pair.second_right) == (0, 0)

    def test_many_labels_a_row_are_compared_by_name(self, tmp_path: Path) -> None:
        order = (1, 2, 0)
        thresholds = [EMOTIONS.thresholds[place] for place in order]
        names = tuple(EMOTIONS.labels[place] for place in order)
        one = write_bundle(tmp_path / "one", EMOTIONS, seed=4)
        same = write_bundle(
            tmp_path / "same",
            Task("multi-label", names, thresholds=tuple(thresholds)),
            seed=4,
            change=reordered(order),
        )
        other = write_bundle(tmp_path / "other", EMOTIONS, seed=5)
        file = label_by(one, tmp_path / "dev.tsv")
        found = found_by(file, [one, same, other])
        perfect, alike, worse = found.entries
        assert perfect.intervals == alike.intervals
        assert perfect.intervals["accuracy"] == (1, 1, 1)
        report = evaluate(other, file, device="cpu").report
        assert values_of(worse) == pytest.approx(report.metrics)
        assert "| accuracy | Jaccard | macro precision |" in to_markdown(found)
        assert found.pairs[1].mcnemar is not None
        assert found.pairs[1].second_right == 0

    def test_numbers_have_no_right_rows_and_less_error_is_better(self, tmp_path: Path) -> None:
        one, other = (
            write_bundle(tmp_path / name, VALENCE, seed=seed) for seed, name in enumerate(("one", "two"))
        )
        file = label_by(one, tmp_path / "dev.tsv")
        found = found_by(file, [other, one], metric="rmse")
        assert [entry.name for entry in found.entries] == ["one", "two"]
        assert found.worse_than("one") == ["two"]
        assert found.worse_than("two") == []
        (pair,) = found.pairs
        assert pair.mcnemar is None
        assert pair.difference.value < 0
        assert found.as_dict()["pairs"][0]["mcnemar"] is None
        assert "McNemar" not in to_markdown(found) + make_comparison_page(found)

    def test_pairs_and_stances(self, tmp_path: Path) -> None:
        labels = ("AGAINST", "FAVOR", "NONE")
        plain = Task("class", labels, pair=True)
        stance = Task("class", labels, pair=True, scored=("AGAINST", "FAVOR"))
        one = write_bundle(tmp_path / "one", plain, seed=1)
        other = write_bundle(tmp_path / "other", stance, seed=2)
        file = label_by(one, tmp_path / "dev.tsv", wrong=3, pair=True)
        rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[1:]]
        lines = [f"{text}\t{text[::-1]}\t{label}" for _, text, label in rows]
        file.write_text("\n".join(["TEXT\tREPLY\tCLASS", *lines, ""]), encoding="utf-8")
        found = found_by(file, [one, other], columns=LabelledColumns(text_pair="REPLY"))
        # One of them is scored as a stance, and so both are.
        assert found.metric == "stance_f1"
        assert found.entries[0].intervals["accuracy"].value == 1 - 3 / len(TEXTS)


class TestModels:
    def test_a_folder_and_its_bundle_are_the_same_model(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        from bundles import TOKENS, make_tokenizer

        from twil.config.model import ClassifierConfig, EncoderConfig, ModelConfig
        from twil.exporting.bundle import export_onnx
        from twil.model.folder import save
        from twil.model.text_model import parameter_count
        from twil.model.twilbert import TWilBERT

        torch.manual_seed(0)
        shape = EncoderConfig(
            vocab_size=len(TOKENS), hidden_size=16, n_layers=1, n_heads=2, head_size=6, max_positions=40
        )
        model = TWilBERT(ModelConfig(encoder=shape, classifier=ClassifierConfig(), task=POLARITY))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        save(tmp_path / "model", model, make_tokenizer(40), {"seconds": 150})
        export_onnx(tmp_path / "model", tmp_path / "bundle", optimize=True)
        file = label_by(tmp_path / "bundle", tmp_path / "dev.tsv", wrong=2)
        found = found_by(file, [tmp_path / "model", tmp_path / "bundle"])
        one, other = found.entries
        assert one.intervals == other.intervals
        assert (one.runtime, other.runtime) == ("torch on cpu", "ONNX Runtime on cpu")
        assert one.architecture == other.architecture
        assert one.architecture == Architecture("twilbert", 1, 2, 16, len(TOKENS), parameter_count(model))
        assert one.size == (tmp_path / "model" / "model.safetensors").stat().st_size
        assert other.size == (tmp_path / "bundle" / "model.onnx").stat().st_size
        assert (one.trained, other.trained) == (150.0, None)  # a bundle does not say
        assert [row[2] for row in speed_grid(found).rows] == ["2.5 min", "–"]
        assert evaluate(tmp_path / "model", file).report == one.report

    @pytest.mark.parametrize(
        "told",
        ["{", "[]", '{"type": "twilbert"}', json.dumps(dict.fromkeys(Architecture.__annotations__, "x"))],
    )
    def test_a_graph_that_tells_no_size_is_compared_without(
        self, told: str, folder: Path, tmp_path: Path
    ) -> None:
        bundle = write_bundle(
            tmp_path / "b", change=lambda model: onnx.helper.set_model_props(model, {ARCHITECTURE_KEY: told})
        )
        assert Session(open_bundle(bundle), provider="cpu").architecture is None
        found = found_by(folder / "dev.tsv", [bundle])
        assert found.entries[0].architecture is None
        assert "| – | – | – | – | – | – | fp32 |" in to_markdown(found)

    def test_a_model_is_let_go_before_the_next_is_loaded(self, folder: Path, tmp_path: Path) -> None:
        with open_classifier(folder / "a", device="cpu") as classifier:
            assert len(classifier.answer(TEXTS).logits) == len(TEXTS)
        with pytest.raises(ModelError, match="was closed"):
            classifier.answer(TEXTS)

    def test_each_model_is_told_before_it_answers(self, folder: Path) -> None:
        *events, _ = compare_events(
            folder / "dev.tsv", [folder / "a", folder / "b"], resamples=FEW, device="cpu"
        )
        assert events == [Answering("a", 1, 2, len(TEXTS)), Answering("b", 2, 2, len(TEXTS))]

    @pytest.mark.parametrize(
        ("order", "names"), [("given", "cab"), ("name", "abc"), ("metric", "a"), ("size", "cab")]
    )
    def test_models_are_sorted(self, order: str, names: str, folder: Path) -> None:
        found = found_by(folder / "dev.tsv", [folder / name for name in "cab"], order=order)
        assert "".join(entry.name for entry in found.entries).startswith(names)


class TestNames:
    def test_models_are_called_after_their_folders_unless_named(self, tmp_path: Path) -> None:
        assert list(name_models(["runs/uno", "otro=runs/dos"])) == ["uno", "otro"]
        assert name_models(["otro=runs/dos"]) == {"otro": Path("runs/dos")}

    def test_folders_called_alike_are_told_by_their_paths(self) -> None:
        assert list(name_models(["a/model", "b/model", "c"])) == ["a/model", "b/model", "c"]

    def test_the_same_folder_twice_is_numbered(self) -> None:
        assert list(name_models(["m", "m", "m"])) == ["m", "m #2", "m #3"]
        assert list(name_models(["m", "m=other"])) == ["m #2", "m"]

    def test_a_path_with_an_equals_sign_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "lr=1e-3").mkdir()
        assert list(name_models([str(tmp_path / "lr=1e-3")])) == ["lr=1e-3"]

    def test_a_name_is_given_once(self) -> None:
        with pytest.raises(ConfigError, match="the same name"):
            name_models(["m=a", "m=b"])


class TestFiles:
    def test_the_json_has_the_layout_that_is_told(self, comparison: Comparison, tmp_path: Path) -> None:
        write_comparison(comparison, tmp_path / "c.json")
        told = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
        assert told["format"] == 1
        assert told["bootstrap"] == {"level": 0.95, "resamples": FEW, "seed": 0, "alpha": 0.05}
        assert [model["name"] for model in told["models"]] == [entry.name for entry in comparison.entries]
        assert set(told["models"][0]["metrics"]["macro_f1"]) == {"value", "low", "high"}
        assert told["models"][0]["texts_per_second"] == pytest.approx(
            len(TEXTS) / told["models"][0]["seconds"]
        )
        for name in (*told, *told["models"][0], *told["pairs"][0]):
            assert name in (Comparison.__doc__ or "")

    def test_a_table_has_a_row_for_each_model(self, comparison: Comparison, tmp_path: Path) -> None:
        for name, separator in (("c.tsv", "\t"), ("c.csv", ",")):
            write_comparison(comparison, tmp_path / name)
            with (tmp_path / name).open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file, delimiter=separator))
            assert [row["model"] for row in rows] == [entry.name for entry in comparison.entries]
            assert float(rows[0]["macro_f1_low"]) == comparison.entries[0].intervals["macro_f1"].low
            assert rows[0]["parameters"] == ""

    def test_markdown_has_the_tables_of_the_terminal(self, comparison: Comparison) -> None:
        text = to_markdown(comparison)
        assert text.startswith("# Comparison on dev.tsv\n")
        assert "\n\ndev.tsv: " in to_markdown(replace(comparison, file=Path("dev.tsv")))
        tables = [part for part in text.split("\n\n") if part.startswith("|")]
        assert [len(table.splitlines()) for table in tables] == [5, 5, 5, 5]
        assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables)

    def test_the_page_opens_with_the_best_model_and_names_no_path(
        self, folder: Path, comparison: Comparison
    ) -> None:
        page = make_comparison_page(comparison)
        opening = re.sub(r"<[^>]+>|\n", "", page[page.index("<h2>Verdict") :])
        score = comparison.entries[0].intervals["macro_f1"].value
        assert opening.startswith(f"Verdicta: macro-F1 {score:.4f}, 95 % interval ")
        assert f"It is better than {', '.join(comparison.worse_than('a'))} by more than chance." in page
        assert str(folder) not in page
        assert '<th scope="row">1. a</th>' in page  # number and name are one column, which stays
        assert ".scroll th:first-child { position: sticky" in page

    def test_a_model_has_one_colour_and_metrics_of_a_unit_one_axis(self, comparison: Comparison) -> None:
        page = make_comparison_page(comparison)
        scores = page[page.index("<h2>Scores</h2>") : page.index("<h2>Quality and speed</h2>")]
        drawings = re.findall(r"<svg[^>]*role=.*?</svg>", scores, flags=re.DOTALL)
        assert len(drawings) == 4
        for drawing in drawings:
            assert re.findall(r'class="line (s\d)"', drawing) == ["s0", "s1", "s2"]
        ticks = [re.findall(r'text-anchor="middle">([\d.]+)<', drawing) for drawing in drawings]
        assert ticks == ticks[:1] * 4
        speed = page[page.index("<h2>Quality and speed</h2>") :]
        assert re.findall(r'class="mark (s\d)"', speed)[:6] == ["s0", "s1", "s2"] * 2  # legend and drawing

    def test_rows_that_models_answer_differently_are_told(self, folder: Path, comparison: Comparison) -> None:
        rows = comparison.differing
        assert len(rows) == 20
        assert all(len(set(row.answers.values())) > 1 for row in rows)
        behind = [bool(row.right) and "a" not in row.right for row in rows]
        assert behind == sorted(behind, reverse=True)
        assert 0 < sum(behind) <= 6
        assert all(row.right == {name for name in "abc" if row.answers[name] == row.true} for row in rows)
        assert rows[0].texts[0] in make_comparison_page(comparison)
        assert not any(text in make_comparison_page(comparison, texts=False) for text in TEXTS)
        assert found_by(folder / "dev.tsv", [folder / "a"], differing=3).differing == ()
        assert len(found_by(folder / "dev.tsv", [folder / "a", folder / "b"], differing=3).differing) == 3

    @pytest.mark.parametrize("task", [EMOTIONS, VALENCE])
    def test_other_tasks_have_rows_that_differ_too(self, task: Task, tmp_path: Path) -> None:
        for seed, name in enumerate("ab"):
            write_bundle(tmp_path / name, task, seed=seed)
        label_by(tmp_path / "a", tmp_path / "dev.tsv")
        found = found_by(tmp_path / "dev.tsv", [tmp_path / "a", tmp_path / "b"])
        assert found.differing
        page = make_comparison_page(found)
        assert "Rows that models predict differently" in page
        if task is VALENCE:
            gaps = [abs(float(row.answers["a"]) - float(row.answers["b"])) for row in found.differing]
            assert gaps == sorted(gaps, reverse=True)

    def test_one_model_alone_has_no_pairs(self, folder: Path) -> None:
        found = found_by(folder / "dev.tsv", {"solo": folder / "a"})
        assert found.pairs == ()
        assert found.worse_than("solo") == []
        assert "better than" not in to_markdown(found)
        assert "Differences" not in make_comparison_page(found)

    def test_names_cannot_break_a_page_or_a_table(self, folder: Path) -> None:
        found = found_by(folder / "dev.tsv", {"<script>|\n*": folder / "a", "b": folder / "b"})
        page, markdown = make_comparison_page(found), to_markdown(found)
        assert "<script" not in page + markdown
        assert "&lt;script&gt;|" in page
        assert "| &lt;script>&#124; * |" in markdown

    @needs_browser
    @pytest.mark.parametrize(("width", "dark"), [(390, True), (1200, False)])
    def test_a_browser_shows_the_page(
        self, width: int, dark: bool, comparison: Comparison, tmp_path: Path
    ) -> None:
        (tmp_path / "site").mkdir()
        write_comparison(comparison, tmp_path / "site" / "c.html")
        seen = look(tmp_path / "site" / "c.html", tmp_path / "profile", width=width, dark=dark)
        assert (seen.console, seen.fetched, seen.scripts) == ([], [], 0)
        assert seen.width <= width
        assert len(seen.sizes) == 6  # four scores, the speed, and the differences
        assert "McNemar" in seen.text


def run(*arguments: object) -> Result:
    texts = [str(argument) for argument in ("compare", *arguments)]
    return CliRunner().invoke(make_app(texts), texts)


def fails(result: Result, *said: str) -> None:
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    for part in said:
        assert part in result.stderr


class TestCommand:
    def test_it_shows_tables_and_writes_what_is_asked_for(self, folder: Path, tmp_path: Path) -> None:
        files = [tmp_path / name for name in ("c.html", "c.md", "c.json", "c.tsv")]
        outputs = [part for file in files for part in ("-o", file)]
        done = run(folder / "dev.tsv", folder / "a", f"otro={folder / 'b'}", "--resamples", FEW, *outputs)
        assert done.exit_code == 0, done.stderr
        for part in (
            "otro",
            "macro-F1",
            "better than",
            "texts/s",
            "McNemar p",
            "Holm p: corrected for 1 pair",
        ):
            assert part in done.stdout
        assert all(file.stat().st_size for file in files)
        assert f"wrote {files[0]}" in done.stderr
        assert (
            f"{files[0]} holds texts of rows that models predict differently: --no-texts leaves them out"
            in done.stderr
        )

    def test_precision_and_recall_are_of_the_label_whose_f1_is_asked_for(self, folder: Path) -> None:
        done = run(folder / "dev.tsv", folder / "a", "--metric", "f1:POS", "--resamples", FEW)
        header = next(line for line in done.stdout.splitlines() if "accuracy" in line)
        assert re.split(r"  +", header.strip())[2:] == ["accuracy", "precision:POS", "recall:POS", "f1:POS"]

    def test_json_is_all_that_is_printed(self, folder: Path) -> None:
        done = run(folder / "dev.tsv", folder / "a", "--json", "--quiet", "--resamples", FEW)
        assert json.loads(done.stdout)["models"][0]["name"] == "a"
        assert done.stderr == ""

    def test_nothing_is_replaced_unless_asked_for(self, folder: Path, tmp_path: Path) -> None:
        target = tmp_path / "c.md"
        target.write_text("mine", encoding="utf-8")
        fails(run(folder / "dev.tsv", folder / "a", "-o", target), "is there already", "--force")
        assert target.read_text(encoding="utf-8") == "mine"
        done = run(folder / "dev.tsv", folder / "a", "-o", target, "--force", "--resamples", FEW)
        assert done.exit_code == 0
        assert target.read_text(encoding="utf-8").startswith("# Comparison")

    def test_what_is_wrong_is_told_in_one_line_and_nothing_is_written(
        self, folder: Path, tmp_path: Path
    ) -> None:
        dev, a = folder / "dev.tsv", folder / "a"
        target = ("-o", tmp_path / "c.md")
        two = write_bundle(tmp_path / "two", Task("class", ("NEG", "POS")))
        many = write_bundle(tmp_path / "many", Task("multi-label", POLARITY.labels))
        pairs = write_bundle(tmp_path / "pairs", Task("class", POLARITY.labels, pair=True))
        encoder = write_bundle(tmp_path / "encoder", None)
        fails(run(dev, a, two, *target), "two has the labels NEG, POS, and a has NEG, NEU, POS")
        fails(
            run(dev, a, many, *target), "many is a model for multi-label of single texts, and a one for class"
        )
        fails(run(dev, a, pairs, *target), "pairs is a model for class of pairs")
        fails(run(dev, a, encoder, *target), "encoder is an encoder")
        fails(run(dev, a, tmp_path, *target), "is no model folder")
        fails(run(dev, a, tmp_path / "none", *target), "there is no model folder", "none")
        fails(run(dev, two, *target), "dev.tsv, line", "the label 'NEU' is none of NEG, POS")
        fails(run(dev, a, "--label", "ETIQUETA", *target), "ETIQUETA", "CLASS")
        fails(run(dev, pairs, *target), "the model reads pairs", "--text-pair")
        fails(run(tmp_path / "none.tsv", a, *target), "none.tsv")
        fails(
            run(dev, a, "--metric", "rmse", *target), "cannot be compared by 'rmse'", "macro_f1", "f1:LABEL"
        )
        fails(run(dev, a, "--sort", "age", *target), "'age'", "parameters")
        fails(run(dev, a, "--resamples", 10, *target), "10 samples are too few")
        fails(run(dev, a, "--seed", -1, *target), "seed -1")
        fails(run(dev, a, "-o", tmp_path / "c.pdf"), "c.pdf", ".html, .md, .json")
        fails(run(dev, a, "-o", tmp_path / "none" / "c.md"), "mkdir -p")
        assert not list(tmp_path.glob("*.md"))
        assert not list(tmp_path.glob(".*"))

    def test_no_model_is_wrong_usage(self, folder: Path) -> None:
        assert run(folder / "dev.tsv").exit_code == 2
        with pytest.raises(ConfigError, match="nothing to compare"):
            found_by(folder / "dev.tsv", [])

    def test_an_empty_file_is_refused(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no rows"):
            found_by(write_rows(tmp_path / "empty.tsv", []), [folder / "a"])
