"""Calibration: the error and its bins against values worked out by hand and against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twil.scores.calibration import BINS, expected_calibration_error, reliability


def of_two(confidences: list[float]) -> np.ndarray:
    """Give probabilities of two labels, of which the first is the likeliest."""
    return np.array([[value, 1 - value] for value in confidences], dtype=np.float64)


def test_two_bins_worked_out_by_hand() -> None:
    probabilities = of_two([0.9, 0.9, 0.9, 0.9, 0.62, 0.62])
    targets = np.array([0, 0, 0, 1, 0, 1])
    found = reliability(probabilities, targets, bins=10)
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 0, 2, 0, 4, 0]
    assert found.confidence[[6, 8]] == pytest.approx([0.62, 0.9])
    assert found.accuracy[[6, 8]] == pytest.approx([0.5, 0.75])
    assert math.isnan(found.accuracy[0])
    assert found.error == pytest.approx(4 / 6 * 0.15 + 2 / 6 * 0.12)


def test_probabilities_that_keep_their_word_have_no_error() -> None:
    targets = np.array([0] * 3 + [1])
    assert expected_calibration_error(of_two([0.75] * 4), targets) == pytest.approx(0)
    assert expected_calibration_error(of_two([1.0] * 4), np.zeros(4, dtype=int)) == 0


def test_certainty_that_is_always_wrong_has_the_error_one() -> None:
    assert expected_calibration_error(of_two([1.0] * 5), np.ones(5, dtype=int)) == 1


def test_an_edge_belongs_to_the_bin_below_and_nothing_is_left_out() -> None:
    values = [0.0, 0.2, 0.2000001, 1.0]
    targets = np.zeros((1, 4))
    assert reliability(np.array([values]), targets, bins=5).counts.tolist() == [2, 1, 0, 0, 1]


def test_every_label_of_a_row_with_many_counts() -> None:
    probabilities, targets = np.array([[0.9, 0.1], [0.9, 0.3]]), np.array([[1, 0], [0, 1]], dtype=np.float32)
    found = reliability(probabilities, targets, bins=10)
    assert found.counts.sum() == 4
    assert found.error == pytest.approx((2 * abs(0.5 - 0.9) + 0.1 + 0.7) / 4)


def test_it_agrees_with_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(scale=2, size=(500, 4))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = rng.integers(4, size=500)
    total = 0.0
    for number in range(BINS):
        inside = [
            (row.max(), row.argmax() == target)
            for row, target in zip(probabilities, targets, strict=True)
            if number / BINS < row.max() <= (number + 1) / BINS
        ]
        if inside:
            confidence, right = np.mean(inside, axis=0)
            total += len(inside) / 500 * abs(right - confidence)
    assert expected_calibration_error(probabilities.astype(np.float32), targets) == pytest.approx(
        total, abs=1e-6
    )
