"""A search: the settings that all trials share, those that are tried, and how."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from twil.config.model import Section, explain
from twil.config.settings import flatten, put_together, read_toml, set_value, whole_name
from twil.config.space import Choices, Dimension, Point, Range, Space, make_dimension
from twil.config.training import FinetuneConfig, parse_finetune_config
from twil.core.errors import ConfigError

Sampler = Literal["grid", "random", "tpe"]
MOST_TRIALS = 100_000


class SearchConfig(Section):
    """How settings are searched."""

    space: dict[str, Any] = Field(default_factory=dict)
    """Values or ranges by the name of a setting."""
    runs: Annotated[int, Field(gt=0, le=1000)] = 1
    """Seeds of each trial."""
    trials: Annotated[int, Field(gt=0, le=MOST_TRIALS)] | None = None
    """How many points are tried; all combinations when left out."""
    sampler: Sampler | None = None
    """How points are chosen; when left out every combination where that can be, else `tpe`."""
    prune: bool = True
    """Whether a trial ends early whose first run is worse than most were at the same evaluation."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides a search.

    Attributes:
        base: The sections of a fine-tuning run that all trials share.
        space: What is tried.
        search: How.
        sampler: How points are chosen.
        trials: How many.
        reason: Why they are chosen so.
        source: The file that settings come from, for errors.
    """

    base: Mapping[str, Any]
    space: Space
    search: SearchConfig
    sampler: Sampler
    trials: int
    reason: str
    source: Path | None = None

    def config(self, point: Point) -> FinetuneConfig:
        """Give the settings of a trial, with the test set, if there is one.

        Raises:
            ConfigError: A value does not fit.
        """
        value = copy.deepcopy(dict(self.base))
        for dimension in self.space.dimensions:
            set_value(value, dimension.name, dimension.setting(point[dimension.name]))
        return parse_finetune_config(value, source=self.source)

    def check(self) -> None:
        """Check every combination of a grid, else every value and both ends of every range.

        Raises:
            ConfigError: A value does not fit.
        """
        for point in self.space.grid() if self.sampler == "grid" else self.space.probes():
            self.config(point)


def search_plan(
    file: Path | None,
    options: Mapping[str, Any],
    settings: Iterable[str] = (),
    search: Mapping[str, Any] | None = None,
) -> Plan:
    """Put a search together; later ones win: the file, the options, the settings.

    Args:
        file: A TOML file with the sections of a fine-tuning run, and perhaps `search`.
        options: Values by section and key, as for `finetune_config`.
        settings: Texts ``name=values``: a list with commas or a range is tried, one value is for all trials.
        search: Fields of `SearchConfig`; those that are None are left out.

    Raises:
        ConfigError: Something is unknown, does not fit, or there is nothing to try.
    """
    value: dict[str, Any] = {"data": {}, "model": {}, **(read_toml(file) if file else {})}
    table = value.pop("search", {})
    chosen = {name: one for name, one in (search or {}).items() if one is not None}
    config = _parse(table, chosen, file)
    put_together(value, options, ())
    dimensions: dict[str, Dimension] = {}
    names: set[str] = set()
    for given, values in [*flatten(config.space).items(), *map(_split_setting, settings)]:
        name = whole_name(given, FinetuneConfig)
        names.add(name)
        dimensions.pop(name, None)
        made = make_dimension(name, values)
        if isinstance(made, Choices | Range):
            dimensions[name] = made
        else:
            set_value(value, name, made)
    if not dimensions:
        raise ConfigError(
            "there is nothing to try: give a setting several values, such as --set lr=1e-5,5e-5"
        )
    if {"train.epochs", "train.steps"} <= dimensions.keys():
        raise ConfigError("epochs and steps are two ways to say how long a run is: try one of them")
    _check_metric(value.get("train"), dimensions)
    _check_parts(names, dimensions)
    space = Space(tuple(dimensions.values()))
    plan = Plan(value, space, config, *_choose(space, config), source=file)
    plan.check()
    return plan


def _parse(table: Any, chosen: Mapping[str, Any], file: Path | None) -> SearchConfig:
    try:
        return SearchConfig.model_validate({**table, **chosen} if isinstance(table, Mapping) else table)
    except ValidationError as error:
        where = f"{file}: " if file else ""
        raise ConfigError(f"{where}search: {explain(error, SearchConfig)}") from error


def _check_metric(train: Any, dimensions: Mapping[str, Dimension]) -> None:
    losses = [name for name in dimensions if f"{name}.".startswith(("train.loss.", "train.class_weights."))]
    if losses and isinstance(train, Mapping) and train.get("metric") == "loss":
        raise ConfigError(f"{losses[0]} makes other losses, which cannot be compared: take another --metric")


def _check_parts(names: Iterable[str], dimensions: Iterable[str]) -> None:
    """Refuse a setting that is tried as a whole beside a part of it, which it would take the place of."""
    for whole in dimensions:
        if parts := [name for name in names if name.startswith(f"{whole}.")]:
            raise ConfigError(f"{whole} would take the place of {parts[0]}: try {whole}.name instead")


def _split_setting(text: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set takes name=values, such as lr=1e-5,5e-5, not '{text}'")
    return name.strip(), values


def _choose(space: Space, config: SearchConfig) -> tuple[Sampler, int, str]:
    size, trials = space.size, config.trials
    if size is not None and size > MOST_TRIALS and trials is None:
        raise ConfigError(
            f"there are {size:,} combinations: say how many of them are to be tried, such as --trials 20, "
            "or give fewer values"
        )
    if config.sampler == "grid" and size is None:
        ranges = ", ".join(each.name for each in space.dimensions if isinstance(each, Range))
        raise ConfigError(
            f"a grid needs lists of values, and there are ranges ({ranges}): take --sampler tpe"
        )
    if config.sampler == "grid" and trials is not None and trials < (size or 0):
        raise ConfigError(
            f"the grid has {size} combinations, and {trials} trials are asked for: leave --trials out, "
            "or take --sampler random or tpe"
        )
    if size is not None and config.sampler in (None, "grid") and (trials is None or trials >= size):
        return "grid", size, "every combination"
    if trials is None:
        raise ConfigError("say how many trials there are to be, such as --trials 20")
    if config.sampler == "random":
        twice = "" if size is None else ", no combination twice"
        return "random", min(trials, size or trials), f"points drawn at random{twice}"
    if config.sampler:
        return "tpe", trials, "each point chosen by those before"
    why = "a range has no end of combinations" if size is None else f"there are {size} combinations"
    return "tpe", trials, f"each point chosen by those before, since {why}"
