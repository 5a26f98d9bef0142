"""What people call the metrics; in a module of its own, which waits for no library."""

from __future__ import annotations

AVERAGES = ("macro", "micro", "weighted")
SCORES = ("precision", "recall", "f1")
OF_LABEL = ":"
"""Between a score and the one label that it is of, such as ``f1:ironía``."""

NAMES = {
    "accuracy": "accuracy",
    "jaccard": "Jaccard",
    "mcc": "Matthews correlation",
    "stance_f1": "F1 of the stances",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "rmse": "root mean squared error",
    "mae": "mean absolute error",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "weighted_f1": "weighted F1",
}


def name_metric(metric: str) -> str:
    """Give a metric the name that people have for it; one without is called as it is."""
    return NAMES.get(metric, metric)
