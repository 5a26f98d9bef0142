"""Losses are those of the papers and of the original, fit their tasks, and add up over micro-batches.

`data/original/losses/losses.npz` holds three batches of probabilities with their truth, and the values and
gradients of the original's losses on them, plain and with a weight for each row.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from twil.config.losses import ORIGINAL_LOSSES, LossConfig
from twil.config.training import finetune_config
from twil.core.errors import ConfigError
from twil.core.task import Task, TaskKind
from twil.train.objectives import losses, soft_metrics, standard_losses
from twil.train.objectives.losses import LossFunction, make_loss, register_loss

ORIGINAL = np.load(Path(__file__).parents[1] / "data" / "original" / "losses" / "losses.npz")
BATCHES = ("onehot_b16c4", "onehot_b8c3_missing_class", "multihot_b12c5_sigmoid")

FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "binary_f1": soft_metrics.micro_f1,
    "f1_macro": soft_metrics.f1_of_averages,
    "f1_per_class": soft_metrics.label_f1,
    "jaccard_acc": soft_metrics.jaccard,
    "macro_f1": soft_metrics.macro_f1,
    "macro_precision": soft_metrics.macro_precision,
    "macro_recall": soft_metrics.macro_recall,
    "micro_f1": soft_metrics.micro_f1,
    "micro_precision": soft_metrics.micro_precision,
    "micro_recall": soft_metrics.micro_recall,
    "precision_per_class": soft_metrics.label_precision,
    "recall_per_class": soft_metrics.label_recall,
    "root_mean_squared_error": standard_losses.row_rmse,
}
"""What computes each of the original's losses here, the metrics without their minus."""

TASKS: dict[TaskKind, Task] = {
    "class": Task("class", ("AGAINST", "FAVOR", "NONE", "OTHER")),
    "multi-label": Task("multi-label", ("alegría", "enfado", "miedo", "sorpresa")),
    "regression": Task("regression", ("gracia",)),
}
NAMES = [(kind, name) for kind, of_kind in losses._LOSSES.items() for name in of_kind]
OF_ONE_ROW = ("cross_entropy", "binary_cross_entropy", "focal", "mse", "row_rmse", "soft_jaccard")


def loss_of(kind: TaskKind, name: str | None = None, *, weights: Any = None, **options: Any) -> LossFunction:
    return make_loss(LossConfig(name=name, **options), TASKS[kind], weights)


def batch(kind: TaskKind, rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, TASKS[kind].outputs, generator=generator) * 2
    if kind == "class":
        return logits, torch.randint(4, (rows,), generator=generator)
    if kind == "multi-label":
        return logits, torch.randint(2, (rows, 4), generator=generator).float()
    return logits, torch.randn(rows, generator=generator)


def gradient(value: Tensor, of: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(value, of, retain_graph=True)
    return result


def assert_close(actual: Tensor, expected: Any) -> None:
    np.testing.assert_allclose(actual.detach(), expected, atol=1e-6, rtol=1e-6)


# The original's losses.


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("case", BATCHES)
def test_values_and_gradients_are_those_of_the_original(case: str, name: str) -> None:
    expected = {key: ORIGINAL[f"{case}__{name}__{key}"] for key in ("value", "mean", "weighted")}
    slopes = {key: ORIGINAL[f"{case}__{name}__grad_of_{key}"] for key in ("mean", "weighted")}
    true, weights = (torch.tensor(ORIGINAL[f"{case}__{key}"]) for key in ("y_true", "sample_weight"))
    probabilities = torch.tensor(ORIGINAL[f"{case}__y_pred"], requires_grad=True)
    values = FUNCTIONS[name](probabilities, true)
    if name != "root_mean_squared_error":
        values = -values
    if name == "jaccard_acc":  # which it divides by 16, and weighs by the mean weight
        values = values.sum() / 16
    assert_close(values, expected["value"])
    assert_close(values.mean(), expected["mean"])
    assert_close(gradient(values.mean(), probabilities), slopes["mean"])
    weighted = (values * weights).mean()
    assert_close(weighted, expected["weighted"])
    assert_close(gradient(weighted, probabilities), slopes["weighted"])


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("case", BATCHES)
def test_the_original_s_name_leads_to_its_loss_on_logits(case: str, name: str) -> None:
    p, true = (torch.tensor(ORIGINAL[f"{case}__{key}"]).double() for key in ("y_pred", "y_true"))
    slope = torch.tensor(ORIGINAL[f"{case}__{name}__grad_of_mean"]).double()
    labels = tuple("abcde"[: p.shape[1]])
    if case.startswith("onehot"):
        task, targets, logits = Task("class", labels), true.argmax(1), p.log().requires_grad_()
        expected_slope = p * (slope - (slope * p).sum(1, keepdim=True))
    else:
        task, targets, logits = Task("multi-label", labels), true, p.logit().requires_grad_()
        expected_slope = p * (1 - p) * slope
    scale = 16 / len(p) if name == "jaccard_acc" else 1.0
    mean = make_loss(LossConfig(name=ORIGINAL_LOSSES[name]), task)(logits, targets) / len(p)
    assert_close(mean, ORIGINAL[f"{case}__{name}__mean"] * scale)
    assert_close(gradient(mean, logits), expected_slope * scale)


def test_every_loss_of_the_original_has_a_name_here() -> None:
    known = {name for _, name in NAMES}
    assert set(ORIGINAL_LOSSES.values()) <= known
    assert set(FUNCTIONS) <= set(ORIGINAL_LOSSES)


# The others.


def test_each_kind_of_task_has_its_default() -> None:
    logits, targets = batch("class", 6)
    assert_close(loss_of("class")(logits, targets), F.cross_entropy(logits, targets, reduction="sum"))
    logits, targets = batch("multi-label", 6)
    expected = F.binary_cross_entropy_with_logits(logits, targets) * 6
    assert_close(loss_of("multi-label")(logits, targets), expected)
    logits, targets = batch("regression", 6)
    assert_close(loss_of("regression")(logits, targets), F.mse_loss(logits[:, 0], targets, reduction="sum"))


def test_rmse_is_the_root_of_the_batch_s_mean() -> None:
    logits, targets = torch.tensor([[1.0], [5.0]]), torch.tensor([4.0, 1.0])
    assert loss_of("regression", "rmse")(logits, targets).item() == pytest.approx(2 * 12.5**0.5)


def test_mse_of_a_class_task_is_that_of_its_probabilities() -> None:
    value = loss_of("class", "mse")(torch.zeros(1, 4), torch.tensor([2]))
    assert value.item() == pytest.approx((3 * 0.25**2 + 0.75**2) / 4)


def test_label_smoothing_spreads_its_share_over_all_labels() -> None:
    logits, targets = batch("class", 5)
    smooth = F.one_hot(targets, 4) * 0.8 + 0.05
    expected = -(smooth * logits.log_softmax(1)).sum(1)
    assert_close(loss_of("class", label_smoothing=0.2).rows(logits, targets), expected)


def test_label_smoothing_pulls_yes_and_no_towards_a_half() -> None:
    logits, targets = batch("multi-label", 5)
    smooth = targets * 0.8 + 0.1
    expected = -(smooth * F.logsigmoid(logits) + (1 - smooth) * F.logsigmoid(-logits)).mean(1)
    assert_close(loss_of("multi-label", label_smoothing=0.2).rows(logits, targets), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_loss_is_the_paper_s(gamma: float) -> None:
    logits, targets = batch("class", 5)
    p = logits.softmax(1)[range(5), targets]
    assert_close(
        loss_of("class", "focal", focal_gamma=gamma).rows(logits, targets), -((1 - p) ** gamma) * p.log()
    )
    logits, targets = batch("multi-label", 5)
    p = torch.where(targets == 1, logits.sigmoid(), 1 - logits.sigmoid())
    expected = (-((1 - p) ** gamma) * p.log()).mean(1)
    assert_close(loss_of("multi-label", "focal", focal_gamma=gamma).rows(logits, targets), expected)


def test_focal_loss_has_the_paper_s_gamma_when_none_is_given() -> None:
    logits, targets = batch("class", 5)
    given = loss_of("class", "focal", focal_gamma=2.0)
    assert_close(loss_of("class", "focal")(logits, targets), given(logits, targets))


# Class weights.


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "soft_jaccard", "soft_label_f1", "mse"])
def test_a_row_counts_with_the_weight_of_its_label(name: str) -> None:
    logits, targets = batch("class", 8)
    weights = np.array([2.0, 0.5, 1.0, 3.0], dtype=np.float32)
    expected = loss_of("class", name).rows(logits, targets) * torch.tensor(weights)[targets]
    assert_close(loss_of("class", name, weights=weights)(logits, targets), expected.sum())


def test_weights_scale_the_loss_of_a_batch_by_their_mean() -> None:
    logits, targets = batch("class", 8)
    weights = np.array([2.0, 0.5, 1.0, 3.0], dtype=np.float32)
    plain = loss_of("class", "soft_macro_f1")(logits, targets) / 8
    weighted = loss_of("class", "soft_macro_f1", weights=weights)(logits, targets) / 8
    assert_close(weighted, plain * torch.tensor(weights)[targets].mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_label_that_holds_counts_with_its_positive_weight(smoothing: float) -> None:
    logits, targets = batch("multi-label", 8)
    weights = np.array([2.0, 0.5, 1.0, 3.0], dtype=np.float32)
    smooth = targets * (1 - smoothing) + smoothing / 2
    terms = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
    expected = (terms * (1 + targets * (torch.tensor(weights) - 1))).mean(1)
    loss = loss_of("multi-label", weights=weights, label_smoothing=smoothing)
    assert_close(loss.rows(logits, targets), expected)
    if not smoothing:
        torchs = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=torch.tensor(weights))
        assert_close(loss(logits, targets) / 8, torchs)


def test_positive_weights_go_with_the_focal_loss_too() -> None:
    logits, targets = batch("multi-label", 8)
    weights = np.array([2.0, 0.5, 1.0, 3.0], dtype=np.float32)
    weighted = loss_of("multi-label", "focal", weights=weights, focal_gamma=0.0)
    cross_entropy = loss_of("multi-label", weights=weights)
    assert_close(weighted(logits, targets), cross_entropy(logits, targets))


# Micro-batches.


@pytest.mark.parametrize(("kind", "name"), [entry for entry in NAMES if entry[1] in OF_ONE_ROW])
def test_losses_of_single_rows_do_not_depend_on_the_micro_batches(kind: TaskKind, name: str) -> None:
    logits, targets = batch(kind, 8)
    logits.requires_grad_()
    loss = loss_of(kind, name)
    whole = gradient(loss(logits, targets) / 8, logits)
    shares = torch.zeros_like(whole)
    for start in range(0, 8, 2):
        shares += gradient(loss(logits[start : start + 2], targets[start : start + 2]) / 8, logits)
    assert_close(shares, whole)


@pytest.mark.parametrize("name", ["soft_macro_f1", "soft_macro_precision", "soft_label_f1"])
def test_a_loss_of_the_batch_counts_with_its_share_of_the_rows(name: str) -> None:
    logits, targets = batch("class", 8)
    loss = loss_of("class", name)
    shares = loss(logits[:2], targets[:2]) / 8 + loss(logits[2:], targets[2:]) / 8
    first, second = (loss.rows(logits[part], targets[part]) for part in (slice(2), slice(2, 8)))
    assert_close(shares, first.mean() * 2 / 8 + second.mean() * 6 / 8)
    assert abs(shares - loss(logits, targets) / 8) > 1e-3


# Numbers stay finite.


@pytest.mark.parametrize(("kind", "name"), NAMES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4, -1e4])
@pytest.mark.parametrize("rows", [1, 3])
def test_values_and_gradients_are_finite(kind: TaskKind, name: str, scale: float, rows: int) -> None:
    right = {
        "class": (F.one_hot(torch.full((rows,), 1), 4).float(), torch.full((rows,), 1)),
        "multi-label": (torch.tensor([[1.0, -1, -1, 1]] * rows), torch.tensor([[1.0, 0, 0, 1]] * rows)),
        "regression": (torch.ones(rows, 1), torch.ones(rows)),
    }
    towards, targets = right[kind]  # three of four classes, or half of the labels, are absent
    logits = (towards * scale).requires_grad_()
    value = loss_of(kind, name)(logits, targets)
    assert value.isfinite()
    assert gradient(value, logits).isfinite().all()


@pytest.mark.parametrize("name", [name for kind, name in NAMES if kind == "multi-label"])
@pytest.mark.parametrize("holds", [0.0, 1.0])
@pytest.mark.parametrize("scale", [-1e4, 0.0, 1e4])
def test_no_label_and_every_label_are_finite(name: str, holds: float, scale: float) -> None:
    logits, targets = torch.full((2, 4), scale, requires_grad=True), torch.full((2, 4), holds)
    value = loss_of("multi-label", name)(logits, targets)
    assert value.isfinite()
    assert gradient(value, logits).isfinite().all()


@pytest.mark.parametrize("kind", ["class", "multi-label"])
def test_a_focal_loss_below_one_is_finite_where_the_model_is_sure(kind: TaskKind) -> None:
    logits, targets = torch.tensor([[50.0, -50, -50, -50]]), torch.tensor([[1.0, 0, 0, 0]])
    logits.requires_grad_()
    loss = loss_of(kind, "focal", focal_gamma=0.5)
    value = loss(logits, targets if kind == "multi-label" else torch.tensor([0]))
    assert gradient(value, logits).isfinite().all()


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_lower_precision_is_left_for_float32(kind: TaskKind, name: str) -> None:
    logits, targets = batch(kind, 8)
    halves = logits.bfloat16()
    expected = loss_of(kind, name)(halves.float(), targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss_of(kind, name)(halves, targets)
    assert value.dtype == torch.float32
    assert value.item() == expected.item()


@pytest.mark.gpu
@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_losses_on_cuda_are_those_on_the_cpu(kind: TaskKind, name: str) -> None:
    weighted = kind == "class" or name in ("binary_cross_entropy", "focal")
    weights = np.array([2.0, 0.5, 1.0, 3.0], dtype=np.float32) if kind != "regression" and weighted else None
    logits, targets = batch(kind, 8)
    loss = loss_of(kind, name, weights=weights)
    with torch.autocast("cuda", dtype=torch.float16):
        value = loss(logits.half().cuda(), targets.cuda())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.cpu(), loss(logits.half(), targets))


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_descent_leads_to_the_truth(kind: TaskKind, name: str) -> None:
    logits, targets = batch(kind, 8)
    logits = (logits / 4).requires_grad_()
    loss = loss_of(kind, name)
    first = loss(logits, targets).item()
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimiser.zero_grad()
        loss(logits, targets).backward()
        optimiser.step()
    assert loss(logits, targets).item() < first
    if kind == "class":
        assert (logits.argmax(1) == targets).all()
    elif kind == "regression":
        assert torch.allclose(logits[:, 0], targets, atol=0.1)
    elif "recall" not in name and "precision" not in name:
        assert ((logits > 0) == (targets > 0)).all()


# What does not fit.


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (
            "class",
            {"name": "binary_cross_entropy"},
            "does not fit a class task: choose one of cross_entropy, focal, mse",
        ),
        (
            "multi-label",
            {"name": "cross_entropy"},
            "does not fit a multi-label task: choose one of binary_cross_entropy",
        ),
        ("regression", {"name": "focal"}, "'focal' does not fit a regression task: choose one of mse, rmse$"),
        (
            "class",
            {"name": "hinge"},
            "there is no loss 'hinge': choose one of cross_entropy, .*binary_cross_entropy.*rmse",
        ),
        (
            "class",
            {"name": "f1_macro"},
            "there is no loss 'f1_macro': the original's is 'soft_f1_of_averages' in twil",
        ),
        ("class", {"name": ""}, "there is no loss ''"),
        (
            "class",
            {"name": "soft_macro_f1", "label_smoothing": 0.1},
            "label smoothing: the loss 'soft_macro_f1' takes none; in a class task cross_entropy does",
        ),
        ("regression", {"label_smoothing": 0.1}, "in a regression task no loss does"),
        (
            "class",
            {"focal_gamma": 1.0},
            "focal_gamma: the loss 'cross_entropy' takes none; in a class task focal does",
        ),
    ],
)
def test_a_loss_or_an_option_that_does_not_fit_is_refused(
    kind: TaskKind, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        loss_of(kind, **options)


def test_positive_weights_are_refused_where_they_have_no_meaning() -> None:
    said = "class weights: the loss 'soft_macro_f1' takes none; in a multi-label task binary_cross_entropy or"
    with pytest.raises(ConfigError, match=said):
        loss_of("multi-label", "soft_macro_f1", weights=np.ones(4, dtype=np.float32))


def test_a_plain_text_names_the_loss() -> None:
    assert LossConfig.model_validate("focal") == LossConfig(name="focal")
    options = {"data": {"train": "a", "dev": "b"}, "model": {"folder": "m"}, "train": {"loss": "focal"}}
    config = finetune_config(None, options, ["train.loss.focal_gamma=1"])
    assert config.train.loss == LossConfig(name="focal", focal_gamma=1)


# A loss of the user's own.


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget after the test what it registers."""
    monkeypatch.setattr(losses, "_LOSSES", {kind: dict(table) for kind, table in losses._LOSSES.items()})


@pytest.mark.usefixtures("registry")
def test_a_user_brings_a_loss_in_a_few_lines() -> None:
    @register_loss("hinge", "class")
    def hinge(logits: Tensor, targets: Tensor) -> Tensor:
        return F.multi_margin_loss(logits, targets, reduction="none")

    logits, targets = batch("class", 6)
    weights = np.array([2.0, 0.5, 1.0, 3.0], dtype=np.float32)
    assert_close(loss_of("class", "hinge")(logits, targets), hinge(logits, targets).sum())
    weighted = loss_of("class", "hinge", weights=weights)(logits, targets)
    assert_close(weighted, (hinge(logits, targets) * torch.tensor(weights)[targets]).sum())
    with pytest.raises(ConfigError, match="'hinge' does not fit a regression task"):
        loss_of("regression", "hinge")


@pytest.mark.usefixtures("registry")
def test_a_loss_for_every_kind_of_task_may_be_a_scalar() -> None:
    @register_loss("small_logits")
    def small_logits(logits: Tensor, targets: Tensor) -> Tensor:
        return logits.square().mean()

    for kind in TASKS:
        logits, targets = batch(kind, 6)
        expected = 6 * logits.square().mean()
        assert_close(loss_of(kind, "small_logits")(logits, targets), expected)


@pytest.mark.usefixtures("registry")
def test_a_name_that_is_taken_or_a_kind_that_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is a loss 'mse' already"):
        register_loss("mse")
    with pytest.raises(ConfigError, match="there is no task kind 'stance': choose among class, multi-label"):
        register_loss("mine", "stance")  # type: ignore[arg-type]


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("compute", "said"),
    [
        (lambda logits, targets: logits, r"gives the shape \(6, 4\) for 6 rows: it must return a tensor"),
        (lambda logits, targets: 1.0, "gives float for 6 rows"),
        (lambda logits, targets: (logits.argmax(1) != targets).float(), "has no gradient"),
    ],
)
def test_a_loss_that_cannot_be_trained_on_says_so(compute: Callable[..., Any], said: str) -> None:
    register_loss("mine")(compute)
    logits, targets = batch("class", 6)
    with pytest.raises(ConfigError, match=f"the loss 'mine' {said}"):
        loss_of("class", "mine")(logits.requires_grad_(), targets)
