"""A search looked at before anything is trained or written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twil.config.search import Plan
from twil.config.training import FinetuneConfig
from twil.train.finetune import FinetuneStarted, finetune_events, read_sets
from twil.train.runs import check_decided, fingerprint, fingerprint_start


def without_test(config: FinetuneConfig) -> FinetuneConfig:
    """Give the settings without the test set, which trials do not see."""
    return config.model_copy(update={"data": config.data.model_copy(update={"test": None})})


def check_plan(plan: Plan, device: str) -> tuple[FinetuneStarted, dict[str, str]]:
    """Take every value up to its first step, and say what all trials share.

    Returns:
        What the first point starts with, and the fingerprint.

    Raises:
        TwilError: As `twil.train.finetune.finetune` does before it trains.
    """
    configs = [plan.config(point) for point in plan.space.probes()]
    for config in configs:
        check_decided(config, "the best trial")
    started: FinetuneStarted | None = None
    with tempfile.TemporaryDirectory() as nowhere:
        for config in configs:
            # The first one reads the test set, too, whose labels must be known when it is scored.
            events = finetune_events(
                without_test(config) if started else config, Path(nowhere) / "model", device=device
            )
            first = next(iter(events))
            assert isinstance(first, FinetuneStarted)
            started = started or first
    assert started is not None
    tried = {each.name for each in plan.space.dimensions}
    shared = fingerprint(configs[0], read_sets(configs[0].data))
    starts = {config.model.source: config.model for config in configs}
    if len(starts) > 1:
        for source, start in starts.items():
            shared |= {f"{name} of {source}": value for name, value in fingerprint_start(start).items()}
    shared = {name: value for name, value in shared.items() if name not in tried}
    search = plan.search
    shared |= {"the space": repr(plan.space.as_dict()), "--sampler": plan.sampler}
    return started, shared | {"--runs": repr(search.runs), "--no-prune": repr(not search.prune)}
