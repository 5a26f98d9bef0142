"""Class weights follow their rule, and say what they cannot follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from twil.config.training import finetune_config
from twil.core.errors import ConfigError
from twil.core.task import Task
from twil.train.objectives.class_weights import class_weights, label_counts

STANCE = Task("class", ("AGAINST", "FAVOR", "NONE"))
STANCES = np.array([0] * 6 + [1] * 3 + [2], dtype=np.int64)
EMOTIONS = Task("multi-label", ("alegría", "enfado", "miedo"))
FELT = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]], dtype=np.float32)


def weights_of(choice: Any, targets: Any = STANCES, task: Task = STANCE) -> list[float]:
    weights = class_weights(choice, targets, task)
    assert weights is not None
    assert weights.dtype == np.float32
    return [pytest.approx(weight) for weight in weights]


def test_none_are_none() -> None:
    assert class_weights("none", STANCES, STANCE) is None
    assert class_weights("none", np.zeros(2, dtype=np.float32), Task("regression", ("gracia",))) is None


def test_rows_of_each_label_are_counted() -> None:
    assert label_counts(STANCES, STANCE).tolist() == [6, 3, 1]
    assert label_counts(FELT, EMOTIONS).tolist() == [3, 2, 0]
    assert label_counts(np.array([0, 0]), STANCE).tolist() == [2, 0, 0]


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=STANCES)
    assert weights_of("balanced") == expected.tolist()


def test_max_ratio_sets_each_label_against_the_most_frequent_one() -> None:
    assert weights_of("max-ratio") == [1.0, 2.0, 6.0]


def test_labels_without_a_weight_have_one() -> None:
    assert weights_of({"FAVOR": 2.5}) == [1.0, 2.5, 1.0]
    assert weights_of({"miedo": 3}, FELT, EMOTIONS) == [1.0, 1.0, 3.0]


def test_positive_weights_set_the_rows_with_a_label_against_those_without() -> None:
    assert weights_of("balanced", FELT, EMOTIONS) == [2 / 3, 3 / 2, 1.0]
    assert weights_of("max-ratio", FELT, EMOTIONS) == [1.0, 3 / 2, 1.0]


@pytest.mark.parametrize("rule", ["balanced", "max-ratio"])
@pytest.mark.parametrize("holds", [0.0, 1.0])
def test_a_label_of_no_row_or_of_all_rows_weighs_one(rule: str, holds: float) -> None:
    assert weights_of(rule, np.full((4, 3), holds, dtype=np.float32), EMOTIONS) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("rule", ["balanced", "max-ratio"])
def test_a_class_without_rows_cannot_be_weighed_by_a_rule(rule: str) -> None:
    with pytest.raises(
        ConfigError, match=f"'{rule}' need rows of every label, and there are none of FAVOR, NONE"
    ):
        class_weights(rule, np.array([0, 0]), STANCE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"FAVOUR": 2.0}, "there is no label 'FAVOUR': choose among AGAINST, FAVOR, NONE"),
        ({"FAVOR": -1.0}, "that of 'FAVOR' is a number above 0, not -1"),
        ({"FAVOR": 0.0}, "not 0"),
        ({"FAVOR": float("nan")}, "not nan"),
        ({"FAVOR": float("inf")}, "not inf"),
        ("auto", "there are no class weights 'auto': choose one of none, balanced, max-ratio"),
    ],
)
def test_what_cannot_be_followed_is_refused(choice: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        class_weights(choice, STANCES, STANCE)


@pytest.mark.parametrize("choice", ["balanced", "max-ratio", {"gracia": 2.0}])
def test_a_regression_has_no_class_weights(choice: Any) -> None:
    with pytest.raises(ConfigError, match="a regression has no labels to weigh"):
        class_weights(choice, np.zeros(3, dtype=np.float32), Task("regression", ("gracia",)))


@pytest.mark.parametrize("held", ["balanced", {"N": 3.0}])
def test_weights_that_are_given_last_take_the_place_of_those_of_a_file(held: Any) -> None:
    sections = {"data": {"train": "a", "dev": "b"}, "model": {"folder": "m"}}
    file = {**sections, "train": {"class_weights": held}}
    for given in ("max-ratio", {"P": 2.0}):
        config = finetune_config(None, {"train": {"class_weights": given}}, held=file)
        assert config.train.class_weights == given
