"""Thresholds and temperature tuned on dev."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import f1_score

from twil.cli.console import Display
from twil.cli.training import show_decision
from twil.config.training import DecisionConfig
from twil.core.errors import ConfigError
from twil.core.task import Task
from twil.train.objectives.decisions import (
    Decision,
    check_decision,
    decide,
    find_temperature,
    find_thresholds,
)

CLASS = Task("class", ("a", "b", "c"))
BINARY = Task("class", ("no", "sí"))
MULTI = Task("multi-label", ("x", "y"))


def test_the_temperature_that_spoiled_logits_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = np.array([rng.choice(3, p=row) for row in chances])
    assert find_temperature((logits * 3).astype(np.float32), targets, CLASS) == pytest.approx(3, rel=0.08)
    yes = (rng.random((4000, 2)) < expit(logits[:, :2])).astype(np.float32)
    assert find_temperature((logits[:, :2] / 2).astype(np.float32), yes, MULTI) == pytest.approx(
        0.5, rel=0.08
    )


def test_thresholds_are_the_best_of_all_that_can_be_tried() -> None:
    rng = np.random.default_rng(1)
    targets = (rng.random((60, 2)) < [0.2, 0.7]).astype(np.float32)
    scores = np.round(np.clip(targets * 0.2 + rng.random((60, 2)) * 0.5, 0, 1), 2).astype(
        np.float32
    )  # with ties
    between = np.arange(0.005, 1, 0.01)  # of scores of two decimals
    found = find_thresholds(scores, targets, MULTI)
    for label, threshold in enumerate(found):
        best = max(f1(targets[:, label], scores[:, label] >= t) for t in between)
        assert f1(targets[:, label], scores[:, label] >= threshold) == pytest.approx(best)
    true = targets[:, 0].astype(np.int64)
    pair = np.stack([1 - scores[:, 0], scores[:, 0]], axis=1)
    (threshold,) = find_thresholds(pair, true, BINARY)
    best = max(macro(true, scores[:, 0] >= t) for t in between)
    assert macro(true, pair[:, 1] >= threshold) == pytest.approx(best)


@pytest.mark.parametrize("score", [1e-44, 1e-30, 5e-7, 0.3, 0.7, 0.99999994])
def test_a_threshold_parts_scores_however_close_they_are(score: float) -> None:
    for high in (np.float32(score), np.nextafter(np.float32(score), np.float32(0))):
        scores = np.array([[high], [np.nextafter(high, np.float32(-1))]], dtype=np.float32)
        scores = np.maximum(scores, 0)
        thresholds = find_thresholds(scores, np.array([[1.0], [0.0]]), Task("multi-label", ("x",)))
        task = Task("multi-label", ("x",), thresholds=thresholds)
        assert task.decide(scores).tolist() == [[True], [not scores[1] < scores[0]]]


def f1(true: np.ndarray, given: np.ndarray) -> float:
    return float(f1_score(true, given, zero_division=0))


def macro(true: np.ndarray, given: np.ndarray) -> float:
    return float(f1_score(true, given, average="macro", zero_division=0))


@pytest.mark.parametrize("targets", [np.zeros(4), np.ones(4)])
def test_a_label_that_never_or_always_holds_has_a_threshold_all_the_same(targets: np.ndarray) -> None:
    scores = np.array([[0.1], [0.4], [1.0], [0.0]], dtype=np.float32)
    task = Task("multi-label", ("x",))
    (threshold,) = find_thresholds(scores, targets[:, None], task)
    assert 0 < threshold < 1
    Task("multi-label", ("x",), thresholds=(threshold,))


def test_a_decision_is_better_on_dev_and_says_by_how_much() -> None:
    rng = np.random.default_rng(2)
    targets = (rng.random((300, 2)) < 0.15).astype(np.float32)
    logits = ((targets * 1.5 + rng.normal(size=(300, 2)) - 2.5) * 3).astype(np.float32)
    decision = decide(DecisionConfig(tune_threshold="f1", calibrate="temperature"), logits, targets, MULTI)
    assert decision is not None
    assert decision.after.score > decision.before.score
    assert decision.after.calibration_error < decision.before.calibration_error
    assert len(decision.task.thresholds) == 2
    assert decision.task.temperature > 1
    assert decision.task.undecided == MULTI
    record = decision.as_dict()
    assert record["thresholds"] == list(decision.task.thresholds)
    assert record["before"]["score"] == decision.before.score
    assert decide(DecisionConfig(), logits, targets, MULTI) is None


@pytest.mark.parametrize(
    ("config", "task", "message"),
    [
        (DecisionConfig(tune_threshold="f1"), CLASS, "the likeliest of 3 labels, and needs no threshold"),
        (DecisionConfig(tune_threshold="f1"), Task("regression", ("v",)), "a number, and needs no threshold"),
        (DecisionConfig(calibrate="temperature"), Task("regression", ("v",)), "has no probabilities"),
    ],
)
def test_what_a_task_does_not_have_cannot_be_tuned(config: DecisionConfig, task: Task, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_decision(config, task)


@pytest.mark.parametrize(
    ("flip", "bound", "said"),
    [
        (True, 20.0, "bound of 20: on dev nearly equal probabilities would be as good"),
        (False, 0.05, "bound of 0.05: the predictions on dev are nearly all right"),
        (None, None, None),
    ],
)
def test_a_temperature_that_ended_at_a_bound_is_said_in_a_note(
    flip: bool | None, bound: float | None, said: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    targets = np.arange(60) % 3
    given = targets if flip is None else (targets + flip) % 3
    logits = 2 * np.eye(3, dtype=np.float32)[given]
    if flip is None:
        logits[:20] = 2 * np.eye(3, dtype=np.float32)[(targets[:20] + 1) % 3]  # a third is wrong
    decision = decide(DecisionConfig(calibrate="temperature"), logits, targets, CLASS)
    assert decision is not None
    assert decision.bound == bound
    assert Decision.parse(decision.as_dict(), decision.task).bound == bound
    show_decision(SimpleNamespace(decision=decision), Display())  # type: ignore[arg-type]
    notes = [line for line in capfd.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == (said is not None)
    assert all(str(said) in note for note in notes)
