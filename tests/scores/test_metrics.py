"""Scores of every kind of task: against numbers of the original, scikit-learn and work by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scikit_scores import scikit_scores
from sklearn.metrics import confusion_matrix, f1_score, matthews_corrcoef

from twil.core.errors import ConfigError, ModelError
from twil.core.task import Task
from twil.scores import metrics
from twil.scores.metrics import (
    check_metric,
    main_metric,
    metric_names,
    metrics_of,
    register_metric,
    score_logits,
)

ORIGINAL = Path(__file__).parents[1] / "data" / "original" / "losses" / "metrics.npz"
STANCE = Task("class", ("AGAINST", "NEUTRAL", "FAVOR"), scored=("AGAINST", "FAVOR"))
EMOTIONS = Task("multi-label", ("ira", "alegría", "miedo"))
VALUE = Task("regression", ("intensidad",))


def one_hot(answers: np.ndarray, labels: int) -> np.ndarray:
    return np.eye(labels, dtype=np.float32)[answers]


@pytest.mark.parametrize("rows", [1, 2, 7, 400])
@pytest.mark.parametrize(
    "task",
    [
        *(STANCE, EMOTIONS, VALUE, Task("multi-label", ("odio",)), Task("class", ("no", "sí"))),
        *(Task("class", ("-1", "0", "2.5")), Task("class", tuple("abcdefgh"))),
    ],
    ids=lambda task: f"{task.kind}-{task.outputs}",
)
def test_every_score_is_that_of_scikit_learn(task: Task, rows: int) -> None:
    # Few rows have labels that nothing is or answers, and numbers that never change.
    rng = np.random.default_rng(rows)
    targets = {
        "class": rng.integers(0, max(2, task.outputs - 1), rows),
        "multi-label": (rng.random((rows, task.outputs)) < 0.4).astype(np.float32),
        "regression": rng.integers(0, 4, rows).astype(np.float32),
    }[task.kind]
    known = np.eye(task.outputs)[targets] if task.kind == "class" else targets.reshape(rows, -1)
    logits = (known - 0.5 + rng.normal(size=(rows, task.outputs))).astype(np.float32)
    report = score_logits(logits, targets, task)
    answers = task.decide(task.probabilities(logits))
    assert metrics_of(report) == pytest.approx(scikit_scores(targets, answers, task), abs=1e-9)
    if task.kind == "class":
        assert report.confusion == confusion_matrix(targets, answers, labels=range(task.outputs)).tolist()
    for place, label in enumerate(task.labels if report.labels else ()):
        true = targets == place if task.kind == "class" else targets[:, place] > 0
        assert report.labels[label]["support"] == true.sum()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("task", [STANCE, EMOTIONS, VALUE], ids=lambda task: task.kind)
def test_logits_that_are_not_finite_have_no_score(task: Task, value: float) -> None:
    logits = np.zeros((5, task.outputs), dtype=np.float32)
    logits[1:3, 0] = value
    targets = np.zeros(5 if task.kind != "multi-label" else (5, task.outputs), dtype=np.int64)
    with pytest.raises(ModelError, match=r"not finite for 2 of 5 rows, .*lower learning rate"):
        score_logits(logits, targets, task)


@pytest.mark.parametrize("case", ["cls0", "cls1", "cls2"])
def test_scores_of_one_label_are_those_of_the_original_monitor(case: str) -> None:
    stored = np.load(ORIGINAL)
    true, given = stored[f"{case}_true"], stored[f"{case}_pred"]
    task = Task("class", ("0", "1", "2"), scored=("0", "2"))
    report = score_logits(one_hot(given, 3), true, task)
    for average in ("macro", "micro", "weighted"):
        for name in ("precision", "recall", "f1"):
            expected = stored[f"{case}_{average}_{name}"]
            assert report.metrics[f"{average}_{name}"] == pytest.approx(expected, abs=1e-6)
    for name in ("precision", "recall", "f1"):
        found = [report.labels[label][name] for label in task.labels]
        assert found == pytest.approx(stored[f"{case}_None_{name}"], abs=1e-6)
    assert report.metrics["accuracy"] == pytest.approx(stored[f"{case}_macro_accuracy"])
    assert report.metrics["pearson"] == pytest.approx(stored[f"{case}_macro_pearson"], abs=1e-6)
    # TWilBERT: read from a printed report of five decimals.
    assert report.metrics["stance_f1"] == pytest.approx(stored[f"{case}_mf1_stance"], abs=1e-5)


@pytest.mark.parametrize("case", ["jac0", "jac1", "jac2"])
def test_the_jaccard_score_of_several_labels_is_that_of_the_original_with_a_threshold(case: str) -> None:
    stored = np.load(ORIGINAL)
    true, scores = stored[f"{case}_true"].astype(np.float32), stored[f"{case}_pred"]
    logits = np.log(scores / (1 - scores)).astype(np.float32)
    task = Task("multi-label", ("a", "b", "c", "d"))
    assert score_logits(logits, true, task).metrics["jaccard"] == pytest.approx(
        by_hand(true, scores >= 0.5), abs=1e-6
    )


def by_hand(true: np.ndarray, given: np.ndarray) -> float:
    shares = []
    for wanted, answered in zip(true > 0, given, strict=True):
        either = (wanted | answered).sum()
        shares.append(1.0 if either == 0 else (wanted & answered).sum() / either)
    return float(np.mean(shares))


def test_a_stance_is_scored_on_its_two_sides_alone() -> None:
    true, given = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 1, 2, 0])
    report = score_logits(one_hot(given, 3), true, STANCE)
    per_label = f1_score(true, given, average=None)
    assert report.metrics["stance_f1"] == pytest.approx((per_label[0] + per_label[2]) / 2)
    assert report.metrics["mcc"] == pytest.approx(matthews_corrcoef(true, given))
    assert main_metric(STANCE) == "stance_f1"
    assert report.confusion == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]


def test_several_labels_are_scored_row_by_row_and_label_by_label() -> None:
    true = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], dtype=np.float32)
    given = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=np.float32)
    report = score_logits(given * 2 - 1, true, EMOTIONS)
    assert report.metrics["accuracy"] == pytest.approx(2 / 4)  # the whole row is right
    assert report.metrics["jaccard"] == pytest.approx((1 + 1 / 2 + 1 + 1 / 2) / 4)
    assert report.labels["ira"]["f1"] == pytest.approx(2 * 2 / (2 + 3))
    assert report.labels["miedo"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert report.metrics["macro_f1"] == pytest.approx(
        f1_score(true, given, average="macro", zero_division=0)
    )
    assert report.confusion == []


def test_a_task_of_one_label_is_scored_on_the_rows_that_have_it() -> None:
    true = np.array([[1], [1], [0], [0], [0]], dtype=np.float32)
    given = np.array([[1], [0], [1], [0], [0]], dtype=np.float32)
    report = score_logits(given * 2 - 1, true, Task("multi-label", ("ira",)))
    assert report.labels == {"ira": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}}
    averages = ("macro_f1", "micro_f1", "weighted_f1", "macro_precision", "micro_recall")
    assert [report.metrics[name] for name in averages] == [0.5] * len(averages)
    assert report.metrics["accuracy"] == report.metrics["jaccard"] == pytest.approx(3 / 5)


@pytest.mark.filterwarnings("error")
def test_one_row_is_scored_without_a_warning() -> None:
    report = score_logits(np.array([[2, 1, 0]], dtype=np.float32), np.array([0]), STANCE)
    assert (report.metrics["accuracy"], report.metrics["mcc"]) == (1, 0)


def test_numbers_are_scored_by_correlation_and_error() -> None:
    true, given = np.array([0, 1, 2, 4], dtype=np.float32), np.array([1, 1, 2, 8], dtype=np.float32)
    report = score_logits(given[:, None], true, VALUE)
    assert report.metrics["pearson"] == pytest.approx(np.corrcoef(true, given)[0, 1])
    assert report.metrics["rmse"] == pytest.approx(np.sqrt(17 / 4))
    assert report.metrics["mae"] == pytest.approx(5 / 4)
    assert report.metrics["spearman"] == pytest.approx(0.948683, abs=1e-6)
    assert (report.labels, report.confusion) == ({}, [])


def test_a_series_that_never_changes_correlates_with_nothing() -> None:
    flat = score_logits(np.ones((3, 1), dtype=np.float32), np.arange(3, dtype=np.float32), VALUE)
    assert flat.metrics["pearson"] == flat.metrics["spearman"] == 0


@pytest.mark.parametrize("task", [STANCE, EMOTIONS, VALUE, Task("class", ("-1", "0", "1"))])
def test_every_metric_that_is_named_is_given(task: Task) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(9, task.outputs)).astype(np.float32)
    targets = {
        "class": np.arange(9) % 3,
        "multi-label": (logits > 0.3).astype(np.float32),
        "regression": rng.normal(size=9).astype(np.float32),
    }[task.kind]
    found = metrics_of(score_logits(logits, targets, task))
    assert set(found) == set(metric_names(task))
    assert all(isinstance(value, float) for value in found.values())
    assert main_metric(task) in found


def test_a_metric_of_one_label_can_be_chosen_and_an_unknown_one_is_refused_with_all_that_there_are() -> None:
    check_metric("f1:FAVOR", STANCE)
    check_metric("loss", VALUE)
    with pytest.raises(ConfigError, match=r"there is no metric 'f1:NADA' .*accuracy.*stance_f1.*f1:LABEL"):
        check_metric("f1:NADA", STANCE)
    with pytest.raises(ConfigError, match=r"there is no metric 'macro_f1' of a regression task: .*pearson"):
        check_metric("macro_f1", VALUE)
    with pytest.raises(ConfigError, match="pearson"):
        check_metric("pearson", STANCE)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_OWN", {})


@pytest.mark.usefixtures("own")
def test_a_metric_of_ones_own_is_scored_beside_the_others() -> None:
    @register_metric("sure")
    def sure(targets: np.ndarray, scores: np.ndarray) -> float:
        return float(scores[np.arange(len(targets)), targets].mean())

    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], dtype=np.float32))
    assert score_logits(logits, np.array([0, 2]), STANCE).metrics["sure"] == pytest.approx(0.65)
    check_metric("sure", STANCE)
    for taken in ("sure", "accuracy", "loss", "f1:mine"):
        with pytest.raises(ConfigError, match="choose a name that is free"):
            register_metric(taken)
