"""Where a graph may run, by twil's names; a place other than the CPU is taken only where it really loads."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import io
import json
import platform
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, Literal, NamedTuple

from twil.bundle.bundle import INPUTS
from twil.bundle.runtime import Place, open_graph
from twil.core.errors import MissingExtraError, first_line, require
from twil.core.installation import install_command

Provider = Literal["cpu", "cuda", "cuda-graphs", "tensorrt", "openvino"]
ProviderChoice = Literal["auto", "cpu", "cuda", "cuda-graphs", "tensorrt", "openvino"]
ON_NVIDIA = frozenset({"cuda", "cuda-graphs", "tensorrt"})

CUDA, TENSORRT, OPENVINO = "CUDAExecutionProvider", "TensorrtExecutionProvider", "OpenVINOExecutionProvider"
_RUNTIME_NAMES = {"cuda": CUDA, "cuda-graphs": CUDA, "tensorrt": TENSORRT, "openvino": OPENVINO}
_TITLES = {"cuda": "CUDA", "cuda-graphs": "CUDA", "tensorrt": "TensorRT", "openvino": "OpenVINO"}
_PLUG_IN = "onnxruntime_ep_openvino"
_PROFILE_ROWS = 512
"""Rows for which TensorRT builds a graph at once; it builds again, for minutes, where a batch has more."""
_registering = Lock()
_opening = Lock()


class ProviderFailure(NamedTuple):
    """What keeps a provider away, and what to do about it."""

    cause: str
    cure: str


class ProviderRequest(NamedTuple):
    """How a graph is to run.

    Attributes:
        provider: Where.
        threads: CPU threads within one operator.
        streams: How many batches are computed at a time; of OpenVINO, which shares its threads among them.
        max_length: Tokens of the longest row, where the graph is a bundle's.
        precision: Of the graph.
    """

    provider: Provider
    threads: int = 1
    streams: int = 1
    max_length: int | None = None
    precision: str = "fp32"

    @property
    def title(self) -> str:
        """What the provider is called."""
        return _TITLES[self.provider]


def open_on(runtime: ModuleType, graph: Path | bytes, request: ProviderRequest) -> Any | ProviderFailure:
    """Open a graph on another provider than the CPU, or find out what keeps that one away.

    Raises:
        MissingExtraError: OpenVINO is wanted, and its plug-in is not installed.
    """
    wanted = _RUNTIME_NAMES[request.provider]
    if wanted == OPENVINO:
        places = _openvino_places(runtime, request)
    else:
        places = _nvidia_failure(runtime, wanted, request.title) or _nvidia_places(request)
    if isinstance(places, ProviderFailure):
        return places
    # Standard output is the whole process's: two that silence it at once would leave it silent.
    with _opening, _quiet() as said:
        if wanted != OPENVINO:
            _preload(runtime, wanted)
        try:
            session = open_graph(runtime, graph, places, threads=request.threads)
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            if "install TensorRT libraries" in str(error):
                return _loading_failure(wanted, said.getvalue())
            return ProviderFailure(
                f"the graph does not load there ({first_line(error)})",
                {
                    "cuda": "free the device's memory, or run with --provider cpu",
                    "openvino": "run with --provider cpu",
                }.get(request.provider, "run with --provider cuda"),
            )
    # ONNX Runtime goes on without a provider whose libraries do not load.
    return session if wanted in session.get_providers() else _loading_failure(wanted, said.getvalue())


def has_openvino() -> bool:
    """Tell whether OpenVINO's plug-in is installed."""
    return importlib.util.find_spec(_PLUG_IN) is not None


def _nvidia_failure(runtime: ModuleType, wanted: str, title: str) -> ProviderFailure | None:
    """Tell what keeps a provider of NVIDIA's away, as far as that shows without loading it."""
    if wanted not in runtime.get_available_providers():
        return ProviderFailure(
            f"the installed onnxruntime {runtime.__version__} is built without {title}",
            f"pip uninstall -y onnxruntime onnxruntime-gpu, then {install_command('gpu')}",
        )
    if not count_devices():
        return ProviderFailure(
            "there is no NVIDIA device, or no driver for it",
            "check that nvidia-smi lists one (a container is started with --gpus all), "
            "or run with --provider cpu",
        )
    return None


def _nvidia_places(request: ProviderRequest) -> tuple[Place, ...]:
    # TF32, which CUDA's provider takes for fp32 by default, keeps 10 of fp32's 23 bits.
    cuda = {"use_tf32": "0"}
    if request.provider == "cuda-graphs":
        return (Place(CUDA, {**cuda, "enable_cuda_graph": "1"}),)
    if request.provider == "cuda":
        return (Place(CUDA, cuda),)
    half = "1" if request.precision == "fp16" else "0"
    return (Place(TENSORRT, {**_profile(request.max_length), "trt_fp16_enable": half}), Place(CUDA, cuda))


def _profile(longest: int | None) -> dict[str, str]:
    """Ask for one engine for every shape; else one is built anew for each that goes beyond those before."""
    if longest is None:
        return {}
    shapes = {"min": (1, 1), "opt": (16, min(32, longest)), "max": (_PROFILE_ROWS, longest)}
    return {
        f"trt_profile_{name}_shapes": ",".join(f"{tensor}:{rows}x{length}" for tensor in INPUTS)
        for name, (rows, length) in shapes.items()
    }


def _openvino_places(runtime: ModuleType, request: ProviderRequest) -> tuple[Place, ...] | ProviderFailure:
    try:
        plug_in = require(_PLUG_IN, purpose="the provider openvino")
        found = _openvino_devices(runtime, plug_in)
    except MissingExtraError:
        raise
    except Exception as error:  # of a library that was built for another ONNX Runtime
        return ProviderFailure(
            f"its libraries do not load ({first_line(error)})",
            "pip install -U onnxruntime onnxruntime-ep-openvino",
        )
    if not found:
        return ProviderFailure("this machine has no CPU that OpenVINO knows", "run with --provider cpu")
    options = {
        "num_of_threads": str(request.threads * request.streams),
        "num_streams": str(request.streams),
        # It computes in bfloat16 where the CPU has units for it, and answers shift by a hundredth.
        "load_config": json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}),
    }
    return (Place(OPENVINO, options, found),)


def _openvino_devices(runtime: ModuleType, plug_in: ModuleType) -> list[Any]:
    """List the CPUs that OpenVINO's plug-in knows: of a processor of another maker there may be none."""

    def found() -> list[Any]:
        return [one for one in runtime.get_ep_devices() if one.ep_name == OPENVINO]

    with _registering:
        if not found():
            _register(runtime, plug_in.get_library_path())
        return [one for one in found() if one.ep_metadata.get("ov_device") == "CPU"]


@functools.cache  # a process loads it once, and for good: ONNX Runtime refuses it a second time
def _register(runtime: ModuleType, library: str) -> None:
    try:
        runtime.register_execution_provider_library(OPENVINO, library)
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        if "already registered" not in str(error):  # by the program that twil is a part of
            raise


def _preload(runtime: ModuleType, wanted: str) -> None:
    """Load NVIDIA's libraries from where pip puts them: ONNX Runtime does so only when told, or never."""
    if hasattr(runtime, "preload_dlls"):
        runtime.preload_dlls()
    if wanted == TENSORRT:
        with contextlib.suppress(ImportError, OSError):
            importlib.import_module("tensorrt")


def _loading_failure(wanted: str, said: str) -> ProviderFailure:
    lost = re.findall(r"^Failed to load (\S+):", said, flags=re.MULTILINE)
    which = f" ({', '.join(lost)})" if lost else ""
    tensorrt = " 'tensorrt==10.*'" if wanted == TENSORRT else ""
    return ProviderFailure(
        f"its libraries do not load{which}", f"pip install 'onnxruntime-gpu[cuda,cudnn]'{tensorrt}"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Catch what ONNX Runtime's Python part prints and warns: standard output belongs to results."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as said:
        warnings.simplefilter("ignore")
        yield said


def device_name() -> str:
    """Name the first device that NVIDIA's driver shows to this process; empty where there is none."""
    driver, handle, name = _load_driver(), ctypes.c_int(0), ctypes.create_string_buffer(256)
    if driver is None or driver.cuInit(0) != 0 or driver.cuDeviceGet(ctypes.byref(handle), 0) != 0:
        return ""
    return name.value.decode() if driver.cuDeviceGetName(name, len(name), handle) == 0 else ""


def count_devices() -> int:
    """Count the devices that NVIDIA's driver shows to this process."""
    driver, count = _load_driver(), ctypes.c_int(0)
    if driver is None or driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _load_driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        return None
