"""What is said of data that cannot be trained on, or make scores misleading."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from twil.cli.console import Display, format_bytes, format_seconds

if TYPE_CHECKING:
    from twil.data.survey.overview import FileOverview, Overview
    from twil.data.survey.repeats import Overlap
    from twil.scores.metrics import Report

NEARLY = "but for links, mentions, punctuation, blanks and case"

_MOST_NAMES = 5  # of labels in a note
_MANY_LABELS = 10  # more, if they are numbers, are hardly classes


def warn_of_overlaps(display: Display, overlaps: Iterable[Overlap]) -> None:
    """Name the sets whose texts stand in another, too."""
    for overlap in overlaps:
        if not overlap.near:
            continue
        if overlap.same:
            said = f"{overlap.same:,} ({100 * overlap.share:.1f} %)"
            more = f"; {NEARLY} {overlap.near:,}" if overlap.near > overlap.same else ""
        else:
            said, more = f"{overlap.near:,}", f", {NEARLY}"
        line, other = overlap.lines[0]
        display.warn(
            f"rows of {overlap.name} whose text {overlap.other} has, too: {said}{more} "
            f"(first line {line:,}, there {other:,})"
        )


def warn_of_constant(display: Display, constant: Mapping[str, str]) -> None:
    """Name the sets that can tell no model from one that always says the same."""
    for name, label in constant.items():
        display.warn(f"all rows of {name} have the label '{label}'")


def warn_of_scores(display: Display, report: Report) -> None:
    """Say what scores show of a model that has not learned its task, and what to try."""
    support = {label: scores["support"] for label, scores in report.labels.items() if scores["support"]}
    if not support or not report.rows:
        return
    if report.metrics["micro_f1"] == 0:
        display.warn(
            "no prediction is right: are these the labels that the model has learned (--map-labels)?"
        )
        return
    if never := [label for label in support if report.labels[label]["recall"] == 0]:
        display.warn(
            f"labels of which no row is found: {_names(never)} "
            "(more of their rows, --class-weights balanced, or more epochs)"
        )
    if report.confusion:
        likeliest = max(support, key=lambda label: support[label])
        share, accuracy = support[likeliest] / report.rows, report.metrics["accuracy"]
        if share - accuracy > 2 * math.sqrt(share * (1 - share) / report.rows):
            display.warn(
                f"accuracy {accuracy:.4f} is below that of always saying '{likeliest}', {share:.4f}: more "
                "epochs, another learning rate, or labels that are not those of the texts"
            )


def show_notes(display: Display, found: Overview) -> None:
    """Say what to act on before training, and how long looking took."""
    for file in found.files:
        if file.bad:
            display.warn(f"rows of {file.name} that cannot be read: {file.bad:,}")
            for error in file.first_errors:
                display.line(f"  {error}")
        if file.unlabelled and found.task != "multi-label":
            display.warn(f"rows of {file.name} without a label: {file.unlabelled:,}{_lines(file)}")
        for line, answer in file.values.first_wrong if file.values else ():
            display.warn(f"{file.name}, line {line:,}: '{answer}' is no number")
    warn_of_overlaps(display, found.overlaps)
    warn_of_constant(display, {file.name: file.constant for file in found.files if file.constant})
    _warn_of_labels(display, found)
    _warn_of_spellings(display, found)
    rows = sum(file.rows for file in found.files)
    display.line(
        f"{rows:,} rows in {format_seconds(found.seconds)}, peak memory {format_bytes(found.peak_memory)}"
    )


def _warn_of_labels(display: Display, found: Overview) -> None:
    """Name the labels that some files lack, unless the labels seem to be something else."""
    labels = {label for file in found.files for label in file.labels or ()}
    from twil.core.task import LABEL_SEPARATOR
    from twil.data.labelled import hidden_labels, misspelt_labels, parse_number

    for file in found.files:
        for look in (hidden_labels, misspelt_labels):
            if said := look(file.labels or {}, found.task):
                display.warn(f"{file.name}: {said}")
    if any(LABEL_SEPARATOR in label for label in labels):
        display.warn(f"labels hold '{LABEL_SEPARATOR}': --task multi-label counts each by itself")
    elif (
        found.task == "class"  # labels of zeros and ones are numbered, and those numbers are their names
        and len(labels) > _MANY_LABELS
        and all(math.isfinite(parse_number(label)) for label in labels)
    ):
        display.warn(f"{len(labels):,} labels, all of them numbers: --task regression takes them as such")
    else:
        constant = {file.name for file in found.files if file.constant}
        for name, absent in found.absent.items():
            if name not in constant:
                display.warn(f"labels that no row of {name} has: {_names(absent)}")


def _warn_of_spellings(display: Display, found: Overview) -> None:
    for group in found.variants:
        spellings = list(dict.fromkeys(map(str.strip, group)))
        if len(spellings) > 1:
            display.warn(
                f"labels that differ in case or blanks alone count as different: {_names(spellings)}"
            )
        else:
            display.line(f"blanks around the label {spellings[0]} do not count")


def _lines(file: FileOverview) -> str:
    shown = ", ".join(f"{line:,}" for line in file.first_unlabelled)
    return f" (line {shown}{', …' if file.unlabelled > len(file.first_unlabelled) else ''})"


def _names(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_MOST_NAMES])
    return shown if len(labels) <= _MOST_NAMES else f"{shown}, … ({len(labels):,} in all)"
