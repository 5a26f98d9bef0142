"""Typed options of what fine-tuning minimises."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from twil.config.model import Section

ClassWeights: TypeAlias = Literal["none", "balanced", "max-ratio"] | dict[str, float]
"""How much each label counts: a rule on the training set's counts, or weights by label name."""


class LossConfig(Section):
    """The loss of a fine-tuning run; a plain text stands for its `name`."""

    name: str | None = None
    """One of `twil.train.objectives.losses` that fits the task, whose kind decides when it is left out."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a target that is spread evenly: over the labels, or over yes and no of each label."""
    focal_gamma: Annotated[float, Field(ge=0)] | None = None
    """How much the focal loss turns to hard rows (2 when left out; 0 is cross-entropy)."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


ORIGINAL_LOSSES = {
    "categorical_crossentropy": "cross_entropy",
    "sparse_categorical_crossentropy": "cross_entropy",
    "binary_crossentropy": "binary_cross_entropy",
    "mean_squared_error": "mse",
    "root_mean_squared_error": "row_rmse",
    "binary_f1": "soft_micro_f1",  # the two give the same numbers
    "micro_f1": "soft_micro_f1",
    "micro_precision": "soft_micro_precision",
    "micro_recall": "soft_micro_recall",
    "macro_f1": "soft_macro_f1",
    "macro_precision": "soft_macro_precision",
    "macro_recall": "soft_macro_recall",
    "f1_macro": "soft_f1_of_averages",
    "f1_per_class": "soft_label_f1",
    "precision_per_class": "soft_label_precision",
    "recall_per_class": "soft_label_recall",
    "jaccard_acc": "soft_jaccard",
}
"""What the losses of the original's configurations, its own and those of Keras, are called in twil."""
