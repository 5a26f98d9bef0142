"""`twil predict --engine ray`: the same on the machines of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twil.cli.console import Display, format_seconds
from twil.cli.rows import announce_default, show_found_text, show_notes
from twil.core.errors import ConfigError

if TYPE_CHECKING:
    from twil.inference.events import ClusterSummary


def label_on_cluster(
    engine: str, local: Mapping[str, object], models: Sequence[str], *, quiet: bool, **options: Any
) -> None:
    """Label the tables, and say what became of their rows.

    Args:
        engine: What was asked for.
        local: Options that only the local engine has, by name.
        models: What labels; of none the default.
        quiet: Show nothing but errors.
        options: Those of `predict_on_ray`.
    """
    if engine == "local":
        raise ConfigError("--workers is an option of --engine ray: leave it out, or add that")
    if engine != "ray":
        raise ConfigError(f"there is no engine '{engine}': choose local or ray")
    if given := [name for name, value in local.items() if value]:
        raise ConfigError(f"--engine ray has no {given[0]}: leave it out, or label with --engine local")

    if len(models) > 1:
        raise ConfigError(
            f"--engine ray labels with one model, and {len(models)} are named: name one, or label with "
            "--engine local"
        )

    from twil.inference.cluster.ray import predict_on_ray
    from twil.inference.events import ClusterStarted, ClusterSummary, Preparing

    with Display(quiet=quiet) as display:
        model = models[0] if models else announce_default(display)
        for event in predict_on_ray(model=model, **options):
            if isinstance(event, Preparing):
                display.line(event.said)
            elif isinstance(event, ClusterStarted):
                display.line(
                    f"{event.model} on Ray, {event.files:,} tables, {event.workers} workers, "
                    f"threads of each: {event.threads}"
                )
                show_found_text(display, event.found_text)
                if event.id_column is None:
                    display.warn("there is no column ID (or name one with --id): rows keep their order only")
            elif isinstance(event, ClusterSummary):
                _show(display, event)
            else:
                display.update(f"{event.rows:,} rows, {event.rows_per_second:,.0f} rows/s")


def _show(display: Display, summary: ClusterSummary) -> None:
    show_notes(display, summary)
    display.line(
        f"{summary.rows:,} rows in {format_seconds(summary.seconds)}, {summary.rows_per_second:,.0f} rows/s, "
        f"{summary.workers} workers on {' and '.join(summary.providers) or 'no row'}, {summary.parts:,} parts"
    )
