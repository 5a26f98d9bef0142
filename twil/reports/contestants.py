"""Which models take part in a comparison, and what they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from twil.core.errors import ConfigError
from twil.core.task import Task


def own_names(task: Task, names: Mapping[str, str]) -> dict[str, str]:
    """Give those of other names for labels that are for a model's own."""
    return {label: name for label, name in names.items() if label in task.labels}


def check_used(names: Mapping[str, str], used: Iterable[Mapping[str, str]]) -> None:
    """Refuse another name for a label that no model has.

    Raises:
        ConfigError: There is one.
    """
    known = {label for own in used for label in own}
    if unknown := [label for label in names if label not in known]:
        raise ConfigError(f"{', '.join(unknown)} cannot be called otherwise: no model has such a label")


def common_task(tasks: Mapping[str, Task]) -> Task:
    """Return what all models are asked, in the order of the first one's labels.

    Raises:
        ConfigError: One is asked something else; it is named, with its labels.
    """
    (first, task), *others = tasks.items()
    for name, other in others:
        if (other.kind, other.pair) != (task.kind, task.pair):
            raise ConfigError(
                f"{name} is a model for {_kind(other)}, and {first} one for {_kind(task)}: only models of "
                "the same task can be compared"
            )
        if set(other.labels) != set(task.labels) and task.kind != "regression":
            raise ConfigError(
                f"{name} has the labels {', '.join(other.labels)}, and {first} has {', '.join(task.labels)}: "
                "only models of the same labels can be compared"
            )
    scored = next((other.scored for other in tasks.values() if other.scored), ())
    return replace(task.undecided, scored=scored)


def _kind(task: Task) -> str:
    return f"{task.kind} of {'pairs' if task.pair else 'single texts'}"
