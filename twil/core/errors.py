"""Errors meant for the user: each says what happened, where, and how to mend it.

Library code raises these and never prints or exits; the command line shows them as one line and
ends with exit code 1.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

from twil.core.installation import install_command


class TwilError(Exception):
    """Something the user can mend."""


class ConfigError(TwilError):
    """A setting is unknown, missing, or does not fit the others."""


class DataError(TwilError):
    """A table cannot be read as asked.

    Args:
        message: What is wrong and how to mend it.
        file: The file it was found in.
        line: The physical line, counted from 1, or the row of a table that has no lines.
        unit: Which of them it is, ``line`` or ``row``.
    """

    def __init__(
        self, message: str, *, file: str | Path | None = None, line: int | None = None, unit: str = "line"
    ) -> None:
        self.file = file
        self.line = line
        where = "" if file is None else f"{file}: " if line is None else f"{file}, {unit} {line}: "
        super().__init__(where + message)


class BusyError(TwilError):
    """Another process writes an output: wait for it, or choose another."""


class NoRoomError(TwilError, OSError):
    """A disk is full, or a file larger than it may be."""


class ModelError(TwilError):
    """A model folder, a bundle or a weights file is not what it should be."""


class ModelWarning(UserWarning):
    """Something that a model's folder holds is not used, or something that it lacks is assumed or drawn anew.

    The command line shows it as a note.
    """


class DataWarning(UserWarning):
    """Something of a table was found that nobody named.

    The command line shows it as a note.
    """


class ExportError(TwilError):
    """A model could not be exported, or its graph does not compute what the model does."""


class ProviderError(TwilError):
    """The execution provider asked for cannot be had."""


class MissingExtraError(TwilError):
    """An optional part of twil is not installed.

    Args:
        extra: The extra that brings it, such as ``train``.
        purpose: What it is needed for, completing "… needs".
    """

    def __init__(self, extra: str, purpose: str) -> None:
        self.extra = extra
        super().__init__(f"{purpose} needs the extra '{extra}': {install_command(extra)}")


EXTRAS = {
    "emoji": "preparations",
    "h5py": "import",
    "matplotlib": "plot",
    "mlflow": "mlflow",
    "onnx": "train",
    "onnxruntime": "cpu",
    "onnxruntime_ep_openvino": "openvino",
    "onnxruntime_extensions": "text-in",
    "optuna": "train",
    "ray": "ray",
    "regex": "preparations",
    "safetensors": "train",
    "scipy": "train",
    "sentencepiece": "train",
    "starlette": "serve",
    "tensorboard": "tensorboard",
    "tomli_w": "train",
    "torch": "train",
    "transformers": "hub",
    "uvicorn": "serve",
    "wandb": "wandb",
}
"""The extra that brings each optional module."""


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """Translate the failed import of an optional module; None where it is none of them."""
    module = (error.name or "").partition(".")[0]
    return MissingExtraError(EXTRAS[module], "this command") if module in EXTRAS else None


def require(module: str, *, purpose: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: Its import name, one of `EXTRAS`.
        purpose: What it is needed for, completing "… needs the extra".

    Raises:
        MissingExtraError: It is not installed.
    """
    if module.startswith("onnxruntime"):  # which else reports its use to its maker, from its import on
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module:
            raise  # it is installed, and something that it needs is not: hide nothing
        raise MissingExtraError(EXTRAS[module], purpose) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without its full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
