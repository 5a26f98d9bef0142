"""The one rule from logits to answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from twil.core.errors import ConfigError
from twil.core.task import Task

CLASS = Task("class", ("no", "sí", "quizá"))
MULTI = Task("multi-label", ("ira", "alegría", "miedo"))

LOGITS = hnp.arrays(np.float32, (4, 3), elements=st.floats(-1e4, 1e4, width=32))


@given(LOGITS)
def test_probabilities_are_those_of_torch_and_always_finite(logits: np.ndarray) -> None:
    tensor = torch.from_numpy(logits)
    np.testing.assert_allclose(CLASS.probabilities(logits), tensor.softmax(-1), atol=1e-6)
    np.testing.assert_allclose(MULTI.probabilities(logits), tensor.sigmoid(), atol=1e-6)
    assert CLASS.probabilities(logits).dtype == np.float32


def test_every_kind_of_task_decodes_by_hand() -> None:
    logits = np.log(np.array([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]], dtype=np.float32))
    assert CLASS.decode(logits).labels == ["sí", "no"]
    np.testing.assert_allclose(CLASS.decode(logits).scores, np.exp(logits), rtol=1e-6)
    assert MULTI.decode(np.array([[1.0, 0.0, -1.0], [-1.0, -2.0, -3.0]])).labels == ["ira|alegría", ""]
    number = Task("regression", ("intensidad",))
    assert number.decode(np.array([[0.25], [-3.0]])).labels == ["0.25", "-3"]


@pytest.mark.parametrize(
    "task", [CLASS, MULTI, Task("regression", ("x",)), Task("class", ("a", "b"), pair=True)]
)
def test_a_task_survives_json(task: Task) -> None:
    assert Task.from_dict(task.as_dict()) == task


@pytest.mark.parametrize(
    ("kind", "labels", "message"),
    [
        ("class", ("uno",), "at least two labels"),
        ("class", ("uno", "uno"), "not all different"),
        ("multi-label", (), "at least one label"),
        ("multi-label", ("a|b", "c"), "cannot hold"),
        ("regression", ("a", "b"), "one output"),
        ("ranking", ("a", "b"), "choose one of class, multi-label, regression"),
    ],
)
def test_a_task_that_cannot_be_decided_is_refused(kind: str, labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Task(kind, labels)  # type: ignore[arg-type]
