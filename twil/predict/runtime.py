"""ONNX Runtime as it is installed here: its import, the graphs it opens, and what keeps CUDA away."""

from __future__ import annotations

import contextlib
import ctypes
import io
import platform
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from twil.errors import MissingExtraError, ProviderError, first_line, require

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_SKIP_NORM = "SkipLayerNormFusion"
"""Its operator takes a CPU several times as long as an addition and a layer norm do."""
_SPIN_MICROSECONDS = 100
"""For how long a graph's idle threads stay awake: longer than from one operator's work to the next one's. By
default they stay so for much longer, and take the CPU from all else, also between calls."""
_SILENT = 4  # ONNX Runtime's level "fatal": what goes wrong is raised, and said by twil


class Obstacle(NamedTuple):
    """What keeps CUDA away, and what to do about it."""

    cause: str
    cure: str


def import_runtime() -> ModuleType:
    """Import ONNX Runtime, and silence it for the whole process.

    Raises:
        MissingExtraError: It is not installed.
        ProviderError: It is installed and does not load.
    """
    try:
        runtime = require("onnxruntime", purpose="prediction")
        # What a provider says while it loads goes through no session's logger.
        runtime.set_default_logger_severity(_SILENT)
    except MissingExtraError:
        raise
    except Exception as error:  # the files of two wheels mixed up may raise anything
        raise ProviderError(
            f"ONNX Runtime is installed and cannot be imported ({first_line(error)}): "
            "pip uninstall -y onnxruntime onnxruntime-gpu, then install twil[cpu] or twil[gpu]"
        ) from error
    return runtime


def open_graph(
    runtime: ModuleType,
    graph: Path | bytes,
    provider: str,
    *,
    threads: int = 1,
    written: Path | None = None,
    operators: str = "",
) -> Any:
    """Open a graph, with the CPU behind the provider; raise what that raises.

    Args:
        runtime: What `import_runtime` gives.
        graph: The ONNX file, or its bytes.
        provider: In ONNX Runtime's names.
        threads: Within one operator.
        written: Where to write the graph as ONNX Runtime has made it over, with its own fused operators.
        operators: A library of more operators to load.
    """
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_MICROSECONDS))
    # Plans of memory are kept per shape, and a file's batches have hundreds.
    options.enable_mem_pattern = False
    if operators:
        options.register_custom_ops_library(operators)
    if written is not None:
        # What is tied to this processor beyond that is a matter of layouts, and would be warned of.
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(written)
    return runtime.InferenceSession(
        graph if isinstance(graph, bytes) else str(graph),
        options,
        providers=list(dict.fromkeys((provider, CPU))),
        enable_fallback=False,
        disabled_optimizers=[_SKIP_NORM] if provider == CPU else None,
    )


def open_on_cuda(runtime: ModuleType, graph: Path | bytes, *, threads: int = 1) -> Any | Obstacle:
    """Open a graph on CUDA, or find out what keeps it away."""
    obstacle = _find_obstacle(runtime)
    if obstacle:
        return obstacle
    with _quiet() as said:
        _preload(runtime)
        try:
            session = open_graph(runtime, graph, CUDA, threads=threads)
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            return Obstacle(
                f"the graph does not load on the device ({first_line(error)})",
                "free the device's memory, or run with --provider cpu",
            )
    # ONNX Runtime goes on without a provider whose libraries do not load.
    return session if CUDA in session.get_providers() else _loading_obstacle(said.getvalue())


def _find_obstacle(runtime: ModuleType) -> Obstacle | None:
    """Tell what keeps CUDA away, as far as that shows without loading it."""
    if CUDA not in runtime.get_available_providers():
        return Obstacle(
            f"the installed onnxruntime {runtime.__version__} is built without CUDA",
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'twil[gpu]'",
        )
    if not _cuda_devices():
        return Obstacle(
            "there is no NVIDIA device, or no driver for it",
            "check that nvidia-smi lists one (a container is started with --gpus all), "
            "or run with --provider cpu",
        )
    return None


def device_name() -> str:
    """Name the first device that NVIDIA's driver shows to this process; empty where there is none."""
    driver, handle, name = _load_driver(), ctypes.c_int(0), ctypes.create_string_buffer(256)
    if driver is None or driver.cuInit(0) != 0 or driver.cuDeviceGet(ctypes.byref(handle), 0) != 0:
        return ""
    return name.value.decode() if driver.cuDeviceGetName(name, len(name), handle) == 0 else ""


def _cuda_devices() -> int:
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


def _preload(runtime: ModuleType) -> None:
    """Load CUDA's libraries from where pip puts them, which ONNX Runtime does only when told."""
    if hasattr(runtime, "preload_dlls"):
        runtime.preload_dlls()


def _loading_obstacle(said: str) -> Obstacle:
    lost = re.findall(r"^Failed to load (\S+):", said, flags=re.MULTILINE)
    which = f" ({', '.join(lost)})" if lost else ""
    return Obstacle(f"its libraries do not load{which}", "pip install 'onnxruntime-gpu[cuda,cudnn]'")


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Catch what ONNX Runtime's Python part prints and warns: standard output belongs to results."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as said:
        warnings.simplefilter("ignore")
        yield said
