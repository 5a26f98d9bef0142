"""A bundle's graph in ONNX Runtime, on a provider that was really had."""

from __future__ import annotations

import contextlib
import ctypes
import io
import platform
import re
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from twil.data.batching import Batch
from twil.errors import ModelError, ProviderError, require
from twil.machine import available_cpus
from twil.predict.bundle import BATCH, INPUTS, SEQUENCE, Bundle
from twil.predict.external import external_files

Provider = Literal["cpu", "cuda"]
ProviderChoice = Literal["auto", "cpu", "cuda"]

_ONNX_NAMES: dict[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_SILENT = 4  # ONNX Runtime's level "fatal": what goes wrong is raised, and said by twil


class _Obstacle(NamedTuple):
    """What keeps CUDA away, and what to do about it."""

    cause: str
    cure: str


class Session:
    """A graph that is ready to run. May be run from several threads at once.

    Args:
        bundle: What to load.
        provider: Where to run; ``auto`` takes CUDA where it really loads, else the CPU.
        threads: CPU threads within one operator; all that the process may use when left out.

    Attributes:
        provider: Where the graph really runs.
        reason: Why ``auto`` took this provider; empty where it was asked for by name.
        threads: CPU threads within one operator.

    Raises:
        ProviderError: The provider asked for cannot be had; the message has cause and cure.
        ModelError: The graph is damaged, is not the one that the manifest describes, or reads files
            that the manifest does not name.
        MissingExtraError: ONNX Runtime is not installed.
    """

    provider: Provider
    reason: str

    def __init__(
        self, bundle: Bundle, *, provider: ProviderChoice = "auto", threads: int | None = None
    ) -> None:
        if provider not in get_args(ProviderChoice):
            known = ", ".join(get_args(ProviderChoice))
            raise ProviderError(f"there is no provider '{provider}': choose one of {known}")
        if threads is not None and threads < 1:
            raise ProviderError(f"a session cannot have {threads} threads: ask for at least one")
        _check_files(bundle)
        self.bundle = bundle
        self.threads = threads or available_cpus()
        self._runtime = require("onnxruntime", extra="cpu", purpose="prediction")
        # For the whole process: what a provider says while it loads goes through no session's logger.
        self._runtime.set_default_logger_severity(_SILENT)
        self._session, self.provider, self.reason = self._open(provider)
        _check_inputs(bundle, self._session.get_inputs())
        _check_outputs(bundle, self._session.get_outputs())

    def run(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """Compute every output of the graph, by name, for a batch.

        Raises:
            ModelError: The graph fails on this batch.
        """
        names = list(self.bundle.manifest.outputs)
        try:
            outputs = self._session.run(names, {name: getattr(batch, name) for name in INPUTS})
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            rows, tokens = batch.input_ids.shape
            raise ModelError(
                f"{self.bundle.graph} fails on a batch of {rows} rows of {tokens} pieces "
                f"({_first_line(error)}): if memory ran out, take smaller batches (--batch-tokens)"
            ) from error
        return dict(zip(names, outputs, strict=True))

    def _open(self, choice: ProviderChoice) -> tuple[Any, Provider, str]:
        if choice == "cpu":
            return self._open_cpu(), "cpu", ""
        found = self._open_cuda()
        if not isinstance(found, _Obstacle):
            return found, "cuda", "CUDA loads" if choice == "auto" else ""
        if choice == "cuda":
            raise ProviderError(f"CUDA cannot be had, as {found.cause}: {found.cure}")
        return self._open_cpu(), "cpu", found.cause

    def _open_cpu(self) -> Any:
        try:
            return self._create("cpu")
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise ModelError(
                f"{self.bundle.graph} cannot be loaded ({_first_line(error)}): export the model again"
            ) from error

    def _open_cuda(self) -> Any | _Obstacle:
        obstacle = _find_obstacle(self._runtime)
        if obstacle:
            return obstacle
        with _quiet() as said:
            _preload(self._runtime)
            try:
                session = self._create("cuda")
            except Exception as error:
                return _Obstacle(
                    f"the graph does not load on the device ({_first_line(error)})",
                    "free the device's memory, or run with --provider cpu",
                )
        # ONNX Runtime goes on without a provider whose libraries do not load.
        return (
            session if _ONNX_NAMES["cuda"] in session.get_providers() else _loading_obstacle(said.getvalue())
        )

    def _create(self, provider: Provider) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Plans of memory are kept per shape, and a file's batches have hundreds.
        options.enable_mem_pattern = False
        names = list(dict.fromkeys((_ONNX_NAMES[provider], _ONNX_NAMES["cpu"])))
        return self._runtime.InferenceSession(
            str(self.bundle.graph), options, providers=names, enable_fallback=False
        )


def _check_files(bundle: Bundle) -> None:
    unknown = external_files(bundle.graph) - bundle.manifest.files.keys()
    if unknown:
        raise ModelError(
            f"{bundle.graph} reads weights from {', '.join(sorted(unknown))}, which its manifest does not "
            "name: do not use this bundle"
        )


def _check_inputs(bundle: Bundle, inputs: list[Any]) -> None:
    expected = {name: ("tensor(int64)", [BATCH, SEQUENCE]) for name in INPUTS}
    found = {node.name: (node.type, list(node.shape)) for node in inputs}
    if found != expected:
        raise ModelError(
            f"{bundle.graph} takes {found}, and prediction gives {expected}: export the model again"
        )


def _check_outputs(bundle: Bundle, outputs: list[Any]) -> None:
    manifest = bundle.manifest
    found = {node.name: (node.type, list(node.shape)) for node in outputs}
    for name, axes in manifest.outputs.items():
        kind, shape = found.get(name, ("nothing", []))
        if kind != "tensor(float)" or shape[:-1] != list(axes):
            raise ModelError(
                f"{bundle.graph} gives {found}, and not {name} as float32 "
                f"({', '.join(axes)}, …): export the model again"
            )
        if manifest.task and shape[-1] != manifest.task.outputs:
            raise ModelError(
                f"{bundle.graph} gives {shape[-1]} {name} per row, and its manifest names the labels "
                f"{', '.join(manifest.task.labels)}: export the model again"
            )


def _find_obstacle(runtime: ModuleType) -> _Obstacle | None:
    """Tell what keeps CUDA away, as far as that shows without loading it."""
    if _ONNX_NAMES["cuda"] not in runtime.get_available_providers():
        return _Obstacle(
            f"the installed onnxruntime {runtime.__version__} is built without CUDA",
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'twil[gpu]'",
        )
    if not _cuda_devices():
        return _Obstacle(
            "there is no NVIDIA device, or no driver for it",
            "check that nvidia-smi lists one (a container is started with --gpus all), "
            "or run with --provider cpu",
        )
    return None


def _cuda_devices() -> int:
    """Count the devices that NVIDIA's driver shows to this process."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _preload(runtime: ModuleType) -> None:
    """Load CUDA's libraries from where pip puts them, which ONNX Runtime does only when told."""
    if hasattr(runtime, "preload_dlls"):
        runtime.preload_dlls()


def _loading_obstacle(said: str) -> _Obstacle:
    lost = re.findall(r"^Failed to load (\S+):", said, flags=re.MULTILINE)
    which = f" ({', '.join(lost)})" if lost else ""
    return _Obstacle(f"its libraries do not load{which}", "pip install 'onnxruntime-gpu[cuda,cudnn]'")


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Catch what ONNX Runtime's Python part prints and warns: standard output belongs to results."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as said:
        warnings.simplefilter("ignore")
        yield said


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
