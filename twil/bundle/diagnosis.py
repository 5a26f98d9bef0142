"""What is installed, which providers really load, and what is wrong with the installation."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType

from twil.bundle.providers import (
    CUDA,
    OPENVINO,
    TENSORRT,
    ProviderFailure,
    ProviderRequest,
    has_openvino,
    open_on,
)
from twil.bundle.runtime import CPU, import_runtime, open_graph
from twil.core.errors import TwilError
from twil.core.installation import install_command
from twil.core.machine import available_cpus, cpu_flags, cpu_name
from twil.core.version import __version__

EXTRAS: dict[str, tuple[str, ...]] = {
    "cpu": ("onnxruntime",),
    "gpu": ("onnxruntime-gpu",),
    "train": ("onnx", "optuna", "safetensors", "scipy", "sentencepiece", "tomli-w", "torch"),
    "import": ("h5py",),
    "hub": ("transformers",),
    "preparations": ("emoji", "regex"),
    "plot": ("matplotlib",),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow-skinny",),
    "wandb": ("wandb",),
    "ray": ("ray",),
    "serve": ("starlette", "uvicorn"),
    "text-in": ("onnxruntime-extensions",),
    "openvino": ("onnxruntime-ep-openvino",),
}
"""The packages that each extra brings."""

BASE = ("jinja2", "numpy", "pyarrow", "pydantic", "rich", "tokenizers", "typer")

# A graph of one Identity node (int64 in, int64 out, operator set 13, IR version 8), written by the
# onnx library: enough to see whether a provider loads, without that library.
_IDENTITY = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080712040a020801620f0a017912"
    "0a0a08080712040a02080142040a00100d"
)


_KNOWN: dict[str, ProviderRequest] = {
    TENSORRT: ProviderRequest("tensorrt"),
    CUDA: ProviderRequest("cuda"),
    OPENVINO: ProviderRequest("openvino"),
    CPU: ProviderRequest("cpu"),
}
"""What twil runs on; ONNX Runtime lists others, too, such as one that sends texts to a service."""


@dataclass(frozen=True)
class Diagnosis:
    """The state of an installation.

    Attributes:
        versions: Installed packages and their versions.
        extras: For each extra whether it is present, or the command that installs what it lacks.
        providers: For each provider that is here an empty text, or why it does not load.
        cpu: The processor.
        cpu_flags: Which instruction sets it has.
        threads: How many CPUs this process may use.
        faults: What is wrong and how to mend it.
    """

    versions: dict[str, str]
    extras: dict[str, str]
    providers: dict[str, str]
    cpu: str
    cpu_flags: dict[str, bool]
    threads: int
    faults: tuple[str, ...]


def diagnose() -> Diagnosis:
    """Look at the installation and the machine; nothing is changed."""
    packages = [*BASE, *(package for names in EXTRAS.values() for package in names)]
    versions = {name: version for name in packages if (version := _version(name))}
    try:
        providers, missing = _load_providers(import_runtime()), ""
    except TwilError as error:
        providers, missing = {}, str(error)
    return Diagnosis(
        versions={"twil": __version__, "python": platform.python_version(), **versions},
        extras={extra: _state(extra, names, versions) for extra, names in EXTRAS.items()},
        providers=providers,
        cpu=cpu_name(),
        cpu_flags=cpu_flags(),
        threads=available_cpus(),
        faults=tuple(_faults(versions, missing)),
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _state(extra: str, packages: tuple[str, ...], versions: dict[str, str]) -> str:
    missing = [name for name in packages if name not in versions]
    if not missing:
        return "present"
    other = {"cpu": "onnxruntime-gpu", "gpu": "onnxruntime"}.get(extra)
    if other in versions:
        return f"not with {other}: pip uninstall {other}, then {install_command(extra)}"
    return f"lacks {', '.join(missing)}: {install_command(extra)}"


def _faults(versions: dict[str, str], missing: str) -> list[str]:
    faults = []
    if "onnxruntime" in versions and "onnxruntime-gpu" in versions:
        faults.append(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: "
            "pip uninstall onnxruntime onnxruntime-gpu, then install one of the two"
        )
    if not any(name in versions for name in ("onnxruntime", "onnxruntime-gpu")):
        faults.append(
            f"there is no ONNX Runtime, which predicts: {install_command('cpu')}, or the same with gpu"
        )
    elif missing:
        faults.append(missing)
    return faults


def _load_providers(runtime: ModuleType) -> dict[str, str]:
    here = {*runtime.get_available_providers(), *([OPENVINO] if has_openvino() else [])}
    return {name: _trouble(runtime, name) for name in _KNOWN if name in here}


def _trouble(runtime: ModuleType, provider: str) -> str:
    """Load a provider for a tiny graph; say why it did not, or nothing."""
    if provider != CPU:
        found = open_on(runtime, _IDENTITY, _KNOWN[provider])
        return found.cause if isinstance(found, ProviderFailure) else ""
    try:
        open_graph(runtime, _IDENTITY)
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        return " ".join(str(error).split())
    return ""
