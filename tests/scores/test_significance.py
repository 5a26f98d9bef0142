"""Scores of samples are those of scikit-learn, intervals hold what they say, tests have closed forms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scikit_scores import scikit_scores

from twil.core.errors import ConfigError
from twil.core.task import Task
from twil.scores.intervals import percentile_interval
from twil.scores.metrics import metric_names, metrics_of, score_logits
from twil.scores.model_pairs import compare_pairs
from twil.scores.resampling import draw, group_rows, make_scorer, resample
from twil.scores.significance import EXACT_BELOW, holm, mcnemar, paired_bootstrap

POLARITY = Task("class", ("N", "NEU", "P"))
STANCE = Task("class", ("AGAINST", "FAVOR", "NONE"), scored=("AGAINST", "FAVOR"))
TWO = Task("class", ("no", "sí"))
EMOTIONS = Task("multi-label", ("alegría", "ira", "miedo", "sorpresa"))
VALENCE = Task("regression", ("value",))
HATE = Task("multi-label", ("odio",))
TASKS = (POLARITY, STANCE, TWO, EMOTIONS, HATE, VALENCE)


def draw_logits(task: Task, rows: int, models: int, seed: int = 0) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Draw what is true, and what models that know something of it say."""
    rng = np.random.default_rng(seed)
    noise = [rng.normal(size=(rows, task.outputs)).astype(np.float32) for _ in range(models)]
    if task.kind == "class":
        targets = rng.choice(
            task.outputs, size=rows, p=np.arange(1, task.outputs + 1) / math.comb(task.outputs + 1, 2)
        )
        known = np.eye(task.outputs)[targets]
    elif task.kind == "multi-label":
        targets = (rng.random((rows, task.outputs)) < 0.3).astype(np.float32)
        known = 2 * targets - 1
    else:
        targets = rng.integers(0, 6, size=rows).astype(np.float32)  # many ties
        known = targets[:, np.newaxis]
        noise = [np.round(part) for part in noise]
    return targets, [(known + part).astype(np.float32) for part in noise]


def answers_of(task: Task, logits: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    return [task.decide(task.probabilities(part)) for part in logits]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.kind}-{task.outputs}-{len(task.scored)}")
def test_every_score_of_given_samples_is_that_of_scikit_learn(task: Task) -> None:
    targets, logits = draw_logits(task, 40, models=2)
    names = metric_names(task)
    firsts, counts = group_rows(targets, answers_of(task, logits))
    answers = answers_of(task, [part[firsts] for part in logits])
    scorer = make_scorer(targets[firsts], answers, task)
    weights = np.concatenate([counts[np.newaxis], *draw(counts, 25, seed=1)])
    # Rows of one label alone, and a single row: scores that are not defined there are the same, too.
    weights = np.concatenate([weights, np.eye(len(firsts))[:2]])
    scores = scorer.score(weights, names)
    for model, sample in itertools.product(range(2), range(len(weights))):
        rows = np.repeat(np.arange(len(firsts)), weights[sample].astype(int))
        expected = scikit_scores(targets[firsts][rows], answers[model][rows], task)
        assert dict(zip(names, scores[model, :, sample], strict=True)) == pytest.approx(
            {name: expected[name] for name in names}, abs=1e-9
        )


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.kind}-{task.outputs}-{len(task.scored)}")
def test_the_value_is_that_of_all_rows(task: Task) -> None:
    targets, logits = draw_logits(task, 300, models=3)
    names = metric_names(task)
    found = resample(targets, answers_of(task, logits), task, metrics=names, samples=3, seed=0)
    for model, part in enumerate(logits):
        expected = metrics_of(score_logits(part, targets, task))
        for name in names:
            assert found.values[name][model] == pytest.approx(expected[name], abs=1e-9), name
            assert found.samples[name].shape == (3, 3)


def test_groups_hold_every_row_once() -> None:
    targets, logits = draw_logits(POLARITY, 500, models=2)
    answers = answers_of(POLARITY, logits)
    firsts, counts = group_rows(targets, answers)
    rows = list(zip(targets, *answers, strict=True))
    assert len(firsts) == len(set(rows))
    assert {rows[first]: count for first, count in zip(firsts, counts, strict=True)} == {
        row: rows.count(row) for row in set(rows)
    }


@pytest.mark.parametrize("groups", [4, 60], ids=["few groups", "about one for each row"])
def test_a_sample_has_as_many_rows_and_draws_each_as_often_as_the_others(groups: int) -> None:
    counts = np.full(groups, 120 // groups, dtype=float)
    counts[0] += 1
    weights = np.concatenate(list(draw(counts, 4000, seed=3)))
    assert weights.shape == (4000, groups)
    assert (weights.sum(axis=1) == counts.sum()).all()
    # Of a multinomial: mean n p, variance n p (1 - p).
    shares = counts / counts.sum()
    assert weights.mean(axis=0) == pytest.approx(counts, rel=0.1)
    assert weights.var(axis=0) == pytest.approx(counts * (1 - shares), rel=0.2)
    assert np.array_equal(weights, np.concatenate(list(draw(counts, 4000, seed=3))))
    assert not np.array_equal(weights, np.concatenate(list(draw(counts, 4000, seed=4))))


def test_models_that_answer_alike_have_the_same_samples() -> None:
    targets, logits = draw_logits(POLARITY, 200, models=2)
    one, other = answers_of(POLARITY, logits)
    found = resample(targets, [one, other, one], POLARITY, metrics=["macro_f1"], samples=50, seed=0)
    assert np.array_equal(found.samples["macro_f1"][0], found.samples["macro_f1"][2])
    assert not np.array_equal(found.samples["macro_f1"][0], found.samples["macro_f1"][1])


def test_an_interval_of_accuracy_is_about_the_one_of_the_binomial() -> None:
    targets = np.zeros(1000, dtype=np.int64)
    given = (np.arange(1000) >= 800).astype(np.int64)
    found = resample(targets, [given], TWO, metrics=["accuracy"], samples=4000, seed=0)
    interval = percentile_interval(found.values["accuracy"][0], found.samples["accuracy"][0])
    half = 1.96 * math.sqrt(0.8 * 0.2 / 1000)
    assert interval == pytest.approx((0.8, 0.8 - half, 0.8 + half), abs=0.003)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "mcc"])
def test_intervals_hold_the_true_score_as_often_as_they_say(metric: str) -> None:
    whole, (given,) = draw_logits(POLARITY, 40_000, models=1, seed=5)
    answers = answers_of(POLARITY, [given])[0]
    truth = resample(whole, [answers], POLARITY, metrics=[metric], samples=1, seed=0).values[metric][0]
    rng = np.random.default_rng(6)
    held = 0
    for trial in range(300):
        rows = rng.integers(len(whole), size=150)
        found = resample(whole[rows], [answers[rows]], POLARITY, metrics=[metric], samples=400, seed=trial)
        interval = percentile_interval(found.values[metric][0], found.samples[metric][0])
        held += interval.low <= truth <= interval.high
    assert 0.91 <= held / 300 <= 0.98


def test_a_difference_by_chance_is_called_significant_as_often_as_alpha_says() -> None:
    rng = np.random.default_rng(7)
    small = 0
    for trial in range(300):
        targets = rng.integers(2, size=120)
        answers = [np.where(rng.random(120) < 0.75, targets, 1 - targets) for _ in range(2)]
        found = resample(targets, answers, TWO, metrics=["accuracy"], samples=400, seed=trial)
        values, samples = found.values["accuracy"], found.samples["accuracy"]
        small += paired_bootstrap(values[0] - values[1], samples[0] - samples[1], rows=120) < 0.05
    assert 0.02 <= small / 300 <= 0.09


def test_the_paired_bootstrap_counts_samples_as_far_off_as_the_difference() -> None:
    samples = np.array([0.0, 0.02, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, -0.01])
    # 0.05 or more away from 0.05: 0, 0.1, 0.12 and -0.01.
    assert paired_bootstrap(0.05, samples, rows=50) == pytest.approx((1 + 4) / (1 + 9))
    assert paired_bootstrap(-0.05, -samples, rows=50) == paired_bootstrap(0.05, samples, rows=50)
    assert paired_bootstrap(0.0, np.zeros(99), rows=50) == 1.0
    assert paired_bootstrap(0.3, np.full(99, 0.3), rows=50) == pytest.approx(0.01)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_few_rows_never_make_a_difference_significant(rows: int) -> None:
    targets = np.zeros(rows, dtype=np.int64)
    answers = [targets, targets + 1]  # all right, and all wrong
    task = Task("class", ("N", "P"))
    found = resample(targets, answers, task, metrics=["accuracy"], samples=999, seed=0)
    right = np.stack(answers) == targets
    (pair,) = compare_pairs(["one", "other"], [0, 1], found, "accuracy", right)
    assert pair.difference.value == 1
    assert pair.bootstrap.p == pytest.approx(2 * 0.5**rows)
    assert pair.mcnemar is not None
    assert pair.bootstrap.p == pytest.approx(pair.mcnemar.p)
    assert not pair.bootstrap.significant


def test_mcnemar_is_exact_for_few_rows_and_corrected_for_many() -> None:
    for first, second in [(1, 0), (3, 9), (5, 5), (0, 24), (20, 2)]:
        rows = first + second
        tail = sum(math.comb(rows, count) for count in range(min(first, second) + 1)) / 2**rows
        assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))
    # The p-value of chi-square with one degree of freedom is erfc(sqrt(x / 2)).
    for first, second in [(10, 15), (121, 59), (300, 310), (13, 13)]:
        statistic = max(abs(first - second) - 1, 0) ** 2 / (first + second)
        assert mcnemar(first, second) == pytest.approx(math.erfc(math.sqrt(statistic / 2)))
        assert mcnemar(first, second) == mcnemar(second, first)
    assert mcnemar(0, 0) == 1.0
    # Both forms say about the same where one takes over.
    assert mcnemar(6, EXACT_BELOW - 7) == pytest.approx(mcnemar(6, EXACT_BELOW - 6), abs=0.02)


def test_holm_corrects_the_smallest_most_and_keeps_their_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_a_metric_that_the_task_has_not_is_refused() -> None:
    targets, logits = draw_logits(POLARITY, 10, models=1)
    with pytest.raises(ConfigError, match=r"cannot be compared by 'rmse': .* macro_f1, .* mcc, or f1:LABEL"):
        resample(targets, answers_of(POLARITY, logits), POLARITY, metrics=["rmse"], samples=2, seed=0)
