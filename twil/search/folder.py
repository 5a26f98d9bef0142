"""The folder of a search: its study and trials while it goes on, its results and its winner at the end."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twil.config.toml import format_toml
from twil.config.training import FinetuneConfig
from twil.core.errors import ConfigError
from twil.core.interruption import check_state
from twil.core.storage import atomic_file, check_parent, write_json
from twil.model.folder import copy

JOURNAL, TRIALS = "study.journal", "trials"
TSV, JSON, SETTINGS, BEST = "results.tsv", "results.json", "best.toml", "best"
_WRITTEN = "|".join(map(re.escape, (TSV, JSON, SETTINGS)))
_OWN = (
    re.compile(f"{re.escape(JOURNAL)}|{TRIALS}|{BEST}|{_WRITTEN}"),
    re.compile(rf"\.\d+-[0-9a-f]{{8}}\.({_WRITTEN})|\.{BEST}-.*"),  # left by a write that was killed
)


@dataclass(frozen=True)
class SearchFolder:
    """Where a search writes."""

    root: Path

    @property
    def journal(self) -> Path:
        """The study."""
        return self.root / JOURNAL

    @property
    def best(self) -> Path:
        """The model folder of the winner, which is written last."""
        return self.root / BEST

    @property
    def trials(self) -> Path:
        """Where the trials lie."""
        return self.root / TRIALS

    def trial(self, number: int) -> Path:
        """The model folder of the best run of a trial."""
        return self.trials / f"{number:04d}"

    def check_vacant(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse to start where a search or something else lies, unless it is continued or given up.

        Raises:
            ConfigError: A search does.
            TwilError: Something else does, or there is no parent folder.
        """
        # One that is there is written into, whatever the folder that holds it allows.
        check_parent(self.trials if self.root.is_dir() else self.root)
        check_state(self.root.resolve(), _OWN)  # an output may be a link, as everywhere
        if overwrite or not (self.root.is_dir() and any(self.root.iterdir())):
            return
        if self.best.exists():
            raise ConfigError(
                f"a search that has ended lies in {self.root}: choose another output, "
                "or replace it with --force"
            )
        if not resume:
            raise ConfigError(
                f"an interrupted search lies in {self.root}: continue it with --resume, "
                "or start anew with --force"
            )

    def make(self, *, anew: bool) -> None:
        """Make the folder.

        Args:
            anew: Whether what lies there is given up.
        """
        if anew and self.root.is_dir():
            shutil.rmtree(self.root)
        self.trials.mkdir(parents=True, exist_ok=True)

    def clear_trials(self, keep: Collection[int], ended: Collection[int]) -> None:
        """Remove what lies of trials that have ended, but for the models of some."""
        for entry in self.trials.iterdir():
            match = re.fullmatch(r"\.?(\d{4,})(\.runs|\.lock|-.*)?", entry.name)
            if match and int(match[1]) in ended and (match[2] or int(match[1]) not in keep):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def write_results(self, rows: Sequence[Mapping[str, object]], results: Mapping[str, Any]) -> None:
        """Write the table and the whole account, each whole or not at all."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with atomic_file(self.root / TSV) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")
        write_json(self.root / JSON, results)

    def write_winner(self, number: int, record: Mapping[str, Any], config: FinetuneConfig, said: str) -> None:
        """Write the winner's settings, ready for `twil finetune --config`, and its model folder.

        Args:
            number: The trial.
            record: What is to stand in its `run.json`.
            config: Its settings.
            said: The first line of the settings' file.
        """
        settings = config.model_dump(mode="json")
        if settings["train"]["steps"] is not None:  # two ways to say how long a run is
            del settings["train"]["epochs"]
        with atomic_file(self.root / SETTINGS) as temporary:
            temporary.write_text(f"# {said}\n\n{format_toml(settings)}", encoding="utf-8")
        copy(self.trial(number), self.best, record)
