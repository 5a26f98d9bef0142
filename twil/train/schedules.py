"""Learning-rate schedules: pure functions of the step, so that a resumed run continues exactly."""

from __future__ import annotations

import math

from twil.config.loop import Schedule


def rate(schedule: Schedule, step: int, *, warmup: float, steps: int) -> float:
    """Return the share of the peak learning rate that a step uses.

    TWilBERT: the rate is set before the step; the original's first accumulation round runs at another.

    Args:
        schedule: ``linear`` and ``cosine`` fall to 0 after the last step; ``noam`` falls with the root of
            the step (Vaswani et al. 2017, section 5.3, scaled so that its peak is 1, see
            `twil.config.loop.noam_peak`); ``constant`` stays.
        step: The optimiser step, from 1.
        warmup: Steps over which the rate rises from 0.
        steps: Steps of the whole run.
    """
    if step < warmup:
        return step / warmup
    if schedule == "noam":
        return math.sqrt(max(warmup, 1) / step)
    remaining = max(0.0, (steps - step + 1) / (steps - warmup + 1))
    if schedule == "linear":
        return remaining
    if schedule == "cosine":
        return (1 - math.cos(math.pi * remaining)) / 2
    return 1.0
