"""The trackers by name: TensorBoard, MLflow, Weights & Biases. Where each writes its own variables say."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twil.core.errors import ConfigError, TwilError, require
from twil.train.tracking import Figures, Status, TrackedRun, Tracker


class TensorBoard(Tracker):
    """Writes event files.

    Args:
        folder: Made if it is not there, and each run of a series has one of its seed's name in there; what it
            holds of steps after a resumed one is overridden. When left out, ``runs/NAME`` of the run.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """

    name = "tensorboard"

    def __init__(self, folder: Path | None = None) -> None:
        require("tensorboard", purpose="--tensorboard" if folder else "--track tensorboard")
        self.folder = folder

    def open(self, run: TrackedRun) -> tuple[str | None, str]:
        """Begin with a run; an earlier sitting is known by its folder."""
        from torch.utils.tensorboard import SummaryWriter

        folder = self.folder or Path("runs") / run.name
        if self.folder and run.seed is not None:
            folder = self.folder / f"seed-{run.seed}"
        self.writer = SummaryWriter(str(folder), purge_step=run.resumed + 1)
        return None, str(folder)

    def log(self, figures: Sequence[Figures]) -> None:
        """Take the figures of some steps."""
        for entry in figures:
            for name, value in entry.values.items():
                self.writer.add_scalar(name, value, entry.step, walltime=entry.time)

    def close(self, status: Status) -> None:  # noqa: ARG002
        """End with the run, of whose end event files say nothing."""
        self.writer.close()


class MLflow(Tracker):
    """Tells the server or the store of `MLFLOW_TRACKING_URI`, else the store of the current folder.

    Raises:
        MissingExtraError: MLflow is not installed.
    """

    name = "mlflow"
    _STATUS: Mapping[Status, str] = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}

    def __init__(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing is sent that was not asked for
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # of its 7, which take minutes
        require("mlflow", purpose="--track mlflow")
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table of a new store

    def open(self, run: TrackedRun) -> tuple[str | None, str]:
        """Begin with a run, or set it running again."""
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self.client: Any = MlflowClient()
        self.known: dict[str, int] = {}  # the last step of each figure, in an earlier sitting
        if run.id is not None:
            self.id = run.id
            self.client.update_run(self.id, status="RUNNING")
            self.known = {
                name: max(each.step for each in self.client.get_metric_history(self.id, name))
                for name in self.client.get_run(self.id).data.metrics
            }
        else:
            tags = {"twil.folder": str(run.folder)}
            made = self.client.create_run(self._experiment(), run_name=run.name, tags=tags)
            self.id = made.info.run_id
            params = [Param(_allowed(name), str(value)) for name, value in run.settings.items()]
            self.client.log_batch(self.id, params=params)
        return self.id, f"run {self.id} in {self.client.tracking_uri}"

    def log(self, figures: Sequence[Figures]) -> None:
        """Take the figures of some steps, but for those that the steps before a kill have left already."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, int(entry.time * 1000), entry.step)
            for entry in figures
            for name, value in ((_allowed(name), value) for name, value in entry.values.items())
            if entry.step > self.known.get(name, -1)
        ]
        self.client.log_batch(self.id, metrics=metrics)

    def close(self, status: Status) -> None:
        """End with the run."""
        self.client.set_terminated(self.id, self._STATUS[status])

    def _experiment(self) -> str:
        """Give the id of the experiment that MLflow's variables name, which is made if it is not there."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        if not name:
            return os.environ.get("MLFLOW_EXPERIMENT_ID", "0")  # 0: its default
        found = self.client.get_experiment_by_name(name)
        experiment: str = found.experiment_id if found else self.client.create_experiment(name)
        return experiment


class WandB(Tracker):
    """Tells Weights & Biases, or a folder of its own where `WANDB_MODE` is ``offline``.

    What it would gather by itself is switched off: it prints what the terminal shows, names of labels and
    all, and keeps the command, the source code and the machine's state.

    Raises:
        MissingExtraError: Its package is not installed.
    """

    name = "wandb"
    _EXIT: Mapping[Status, int] = {"finished": 0, "interrupted": 130, "failed": 1}

    def __init__(self) -> None:
        self.wandb: Any = require("wandb", purpose="--track wandb")

    def open(self, run: TrackedRun) -> tuple[str | None, str]:
        """Begin with a run, or go on with it."""
        if self.wandb.setup().settings.mode == "online" and not self.wandb.login(prompt=False):
            raise TwilError("no API key: type wandb login, or set WANDB_API_KEY, or WANDB_MODE=offline")
        private = self.wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        settings = None if run.id else dict(run.settings)
        self.run = self.wandb.init(
            id=run.id, resume="allow", name=run.name, config=settings, settings=private
        )
        return self.run.id, str(Path(self.run.dir).parent if self.run.offline else self.run.url)

    def log(self, figures: Sequence[Figures]) -> None:
        """Take the figures of some steps; those of earlier ones than it has, it leaves out itself."""
        for entry in figures:
            self.run.log(dict(entry.values), step=entry.step)

    def close(self, status: Status) -> None:
        """End with the run, once what is left is sent."""
        self.run.summary["status"] = status
        self.run.finish(exit_code=self._EXIT[status])


TRACKERS: Mapping[str, Callable[[], Tracker]] = {
    tracker.name: tracker for tracker in (TensorBoard, MLflow, WandB)
}


def make_trackers(names: Iterable[str], figures: Path | None = None) -> list[Tracker]:
    """Make trackers by their names.

    Args:
        names: Of `TRACKERS`.
        figures: A folder for TensorBoard, which is then one of them.

    Raises:
        ConfigError: There is no tracker of that name.
        MissingExtraError: A tracker's package is not installed.
    """
    wanted = dict.fromkeys(names)
    for name in wanted:
        if name not in TRACKERS:
            raise ConfigError(f"there is no tracker '{name}': choose one of {', '.join(TRACKERS)}")
    made: list[Tracker] = [TensorBoard(figures)] if figures else []
    return made + [TRACKERS[name]() for name in wanted if not (figures and name == TensorBoard.name)]


def _allowed(name: str) -> str:
    """Write a name in the characters that MLflow allows; a label may have others."""
    return re.sub(r"[^\w\-. /:]", lambda found: f"u{ord(found[0]):x}", name)
