"""ONNX Runtime as it is installed here: its import, and the graphs that it opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from twil.core.errors import MissingExtraError, ProviderError, first_line, require

CPU = "CPUExecutionProvider"
_SKIP_NORM = "SkipLayerNormFusion"
"""Its operator takes a CPU several times as long as an addition and a layer norm do."""
_SPIN_MICROSECONDS = 100
"""For how long a graph's idle threads stay awake: longer than from one operator's work to the next one's. By
default they stay so for much longer, and take the CPU from all else, also between calls."""
_SILENT = 4  # ONNX Runtime's level "fatal": what goes wrong is raised, and said by twil


class Place(NamedTuple):
    """Where a graph is to run.

    Attributes:
        provider: In ONNX Runtime's names.
        options: Of the provider.
        devices: The devices of a provider that was loaded as a plug-in; none of one that is built in.
    """

    provider: str
    options: Mapping[str, str] = {}
    devices: Sequence[Any] = ()


ON_CPU = (Place(CPU),)


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
            "pip uninstall -y onnxruntime onnxruntime-gpu, then install one of the two"
        ) from error
    return runtime


def open_graph(
    runtime: ModuleType,
    graph: Path | bytes,
    places: Sequence[Place] = ON_CPU,
    *,
    threads: int = 1,
    written: Path | None = None,
    operators: str = "",
) -> Any:
    """Open a graph, with the CPU behind the places; raise what that raises.

    Args:
        runtime: What `import_runtime` gives.
        graph: The ONNX file, or its bytes.
        places: Where it is to run, the most wanted first. A plug-in's is the only one.
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
    model = graph if isinstance(graph, bytes) else str(graph)
    first = places[0]
    if first.devices:
        options.add_provider_for_devices(list(first.devices), dict(first.options))
        return runtime.InferenceSession(model, options, enable_fallback=False)
    built_in = [(place.provider, dict(place.options)) for place in places]
    return runtime.InferenceSession(
        model,
        options,
        providers=built_in if first.provider == CPU else [*built_in, (CPU, {})],
        enable_fallback=False,
        disabled_optimizers=[_SKIP_NORM] if first.provider == CPU else None,
    )
