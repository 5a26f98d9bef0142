"""What fine-tuning minimises: the losses, which of them fit which task, and those that users bring.

Each takes logits float ``(B, L)`` and targets: int64 ``(B,)`` of a class task, float ``(B, L)`` of 0 and 1
of a multi-label task, float ``(B,)`` of a regression. It gives one value per row, ``(B,)``, or one for the
batch, a scalar. `LossFunction` makes a sum over rows of either, so that micro-batches add up to their step.
"""

# B batch   L labels

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, TypeVar, get_args

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from twil.config.losses import ORIGINAL_LOSSES, LossConfig
from twil.core.errors import ConfigError
from twil.core.task import Task, TaskKind
from twil.train.objectives import soft_metrics, standard_losses

Compute: TypeAlias = Callable[..., Tensor]
Own = TypeVar("Own", bound=Compute)


def _of_classes(compute: Compute) -> Compute:
    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return compute(logits.softmax(1), F.one_hot(targets, logits.shape[1]).to(logits.dtype))

    return loss


def _of_labels(compute: Compute) -> Compute:
    return lambda logits, targets: compute(logits.sigmoid(), targets)


def _of_values(compute: Compute) -> Compute:
    return lambda logits, targets: compute(logits, targets[:, None])


def _negative(metric: Compute) -> Compute:
    return lambda probabilities, targets: -metric(probabilities, targets)


_ON_PROBABILITIES: dict[str, Compute] = {
    "mse": standard_losses.squared_error,
    "row_rmse": standard_losses.row_rmse,
    "soft_micro_f1": _negative(soft_metrics.micro_f1),
    "soft_micro_precision": _negative(soft_metrics.micro_precision),
    "soft_micro_recall": _negative(soft_metrics.micro_recall),
    "soft_macro_f1": _negative(soft_metrics.macro_f1),
    "soft_macro_precision": _negative(soft_metrics.macro_precision),
    "soft_macro_recall": _negative(soft_metrics.macro_recall),
    "soft_f1_of_averages": _negative(soft_metrics.f1_of_averages),
    "soft_label_f1": _negative(soft_metrics.label_f1),
    "soft_label_precision": _negative(soft_metrics.label_precision),
    "soft_label_recall": _negative(soft_metrics.label_recall),
    "soft_jaccard": _negative(soft_metrics.jaccard),
}

_LOSSES: dict[TaskKind, dict[str, Compute]] = {
    "class": {
        "cross_entropy": standard_losses.cross_entropy,
        "focal": standard_losses.softmax_focal,
        **{name: _of_classes(compute) for name, compute in _ON_PROBABILITIES.items()},
    },
    "multi-label": {
        "binary_cross_entropy": standard_losses.binary_cross_entropy,
        "focal": standard_losses.sigmoid_focal,
        **{name: _of_labels(compute) for name, compute in _ON_PROBABILITIES.items()},
    },
    "regression": {
        "mse": _of_values(standard_losses.squared_error),
        "rmse": _of_values(standard_losses.rmse),
    },
}
"""The losses of each kind of task; the first is its default."""

_SMOOTHED = ("cross_entropy", "binary_cross_entropy")
_POSITIVELY_WEIGHTED = ("binary_cross_entropy", "focal")


class LossFunction:
    """What a run minimises, as a sum over rows.

    Whoever trains divides the sums of a step's micro-batches by the rows of the step. Losses of single rows
    then do not depend on the micro-batches; those of a batch count with their share of the rows.

    It computes in float32 or better, under autocast too.

    Args:
        name: Its name.
        compute: The loss proper, ``(logits, targets)`` to ``(B,)`` or a scalar.
        row_weights: float32 ``(L,)``: a row of a class task counts with the weight of its label, as in Keras;
            no weight changes what the sum is divided by.
    """

    def __init__(self, name: str, compute: Compute, row_weights: Tensor | None = None) -> None:
        self.name = name
        self._compute = compute
        self._row_weights = row_weights

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the sum over rows, a scalar; arguments as of `rows`."""
        return self.rows(logits, targets).sum()

    def rows(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute what each row adds, ``(B,)``; the value of a batch stands in each of its rows.

        Args:
            logits: Float ``(B, L)``.
            targets: What the kind of task has, on the same device.

        Raises:
            ConfigError: A loss that a user brought gives something else.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if targets.is_floating_point():
            targets = targets.to(logits.dtype)
        with torch.autocast(logits.device.type, enabled=False):
            values = self._compute(logits, targets)
            self._check(values, logits)
            if self._row_weights is not None:
                values = values * self._row_weights.to(logits.device)[targets]
        return values.expand(len(logits))

    def _check(self, values: Any, logits: Tensor) -> None:
        if not isinstance(values, Tensor) or values.shape not in ((), (len(logits),)):
            given = (
                f"the shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            )
            raise ConfigError(
                f"the loss '{self.name}' gives {given} for {len(logits)} rows: it must return a tensor of "
                "one value per row, or of one for the batch"
            )
        if logits.requires_grad and not values.requires_grad:
            raise ConfigError(
                f"the loss '{self.name}' has no gradient: compute it from the logits with operations of "
                "torch, without argmax, item() or detach()"
            )


def register_loss(name: str, *kinds: TaskKind) -> Callable[[Own], Own]:
    """Add a loss of one's own, which the option `loss` then finds by its name.

    The function takes logits float32 ``(B, L)`` and the targets of the kind of task, and returns one value
    per row, ``(B,)``, or a scalar for the batch::

        @register_loss("hinge", "class")
        def hinge(logits, targets):
            return F.multi_margin_loss(logits, targets, reduction="none")

    Args:
        name: What it is called.
        kinds: The kinds of task that it fits; every kind when left out.

    Raises:
        ConfigError: The name is taken, or there is no such kind.
    """
    if any(name in losses for losses in _LOSSES.values()):
        raise ConfigError(f"there is a loss '{name}' already: give yours another name")
    for kind in kinds:
        if kind not in _LOSSES:
            raise ConfigError(f"there is no task kind '{kind}': choose among {', '.join(_LOSSES)}")

    def add(compute: Own) -> Own:
        for kind in kinds or get_args(TaskKind):
            _LOSSES[kind][name] = compute
        return compute

    return add


def make_loss(config: LossConfig, task: Task, weights: NDArray[Any] | None = None) -> LossFunction:
    """Make the loss of a run.

    Args:
        config: Its name and options.
        task: What is learned.
        weights: Float ``(L,)``, as `twil.train.objectives.class_weights` gives them: of the rows of each
            label in a class task, of each label where it holds in a multi-label task.

    Raises:
        ConfigError: There is no such loss, it does not fit the task, or an option does not fit it.
    """
    fitting = _LOSSES[task.kind]
    name = next(iter(fitting)) if config.name is None else config.name
    if name not in fitting:
        raise ConfigError(_unfit(name, task.kind))
    options: dict[str, Any] = {}
    if config.label_smoothing:
        _check_option("label smoothing", name, task.kind, _SMOOTHED)
        options["label_smoothing"] = config.label_smoothing
    if config.focal_gamma is not None:
        _check_option("focal_gamma", name, task.kind, ("focal",))
        options["focal_gamma"] = config.focal_gamma
    row_weights = None
    if weights is not None:
        tensor = torch.as_tensor(weights, dtype=torch.float32)
        assert tensor.shape == (task.outputs,)
        if task.kind == "class":
            row_weights = tensor
        else:
            _check_option("class weights", name, task.kind, _POSITIVELY_WEIGHTED)
            options["positive_weights"] = tensor
    compute = fitting[name]
    return LossFunction(name, partial(compute, **options) if options else compute, row_weights)


def _unfit(name: str, kind: TaskKind) -> str:
    fitting = f"choose one of {', '.join(_LOSSES[kind])}"
    if any(name in losses for losses in _LOSSES.values()):
        return f"the loss '{name}' does not fit a {kind} task: {fitting}"
    if name in ORIGINAL_LOSSES:
        return f"there is no loss '{name}': the original's is '{ORIGINAL_LOSSES[name]}' in twil"
    known = dict.fromkeys(known for losses in _LOSSES.values() for known in losses)
    return f"there is no loss '{name}': choose one of {', '.join(known)}"


def _check_option(what: str, name: str, kind: TaskKind, takers: tuple[str, ...]) -> None:
    if name not in takers:
        fitting = " or ".join(taker for taker in takers if taker in _LOSSES[kind]) or "no loss"
        raise ConfigError(f"{what}: the loss '{name}' takes none; in a {kind} task {fitting} does")
