"""A bundle's graph in ONNX Runtime, on a provider that was really had."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from twil.bundle.architecture import Architecture
from twil.bundle.bundle import BATCH, INPUTS, SEQUENCE, TASK_KEY, Bundle
from twil.bundle.external import external_files
from twil.bundle.providers import (
    ON_NVIDIA,
    Provider,
    ProviderChoice,
    ProviderFailure,
    ProviderRequest,
    open_on,
)
from twil.bundle.replay import Replay
from twil.bundle.runtime import import_runtime, open_graph
from twil.core.errors import ConfigError, ModelError, ProviderError, TwilError, first_line
from twil.core.machine import usable_threads
from twil.core.task import Task
from twil.data.batching import Batch


class Session:
    """A graph that is ready to run. May be run from several threads at once.

    Args:
        bundle: What to load.
        provider: Where to run. ``cuda-graphs`` is CUDA with `Replay`; ``auto`` takes CUDA where it really
            loads, else the CPU.
        threads: CPU threads within one operator; all that the process may use when left out.
        streams: How many batches are to be computed at a time.

    Attributes:
        provider: Where the graph really runs.
        reason: Why ``auto`` took this provider; empty where it was asked for by name.
        threads: CPU threads within one operator.
        streams: How many batches are computed at a time; one on a GPU.
        version: Of ONNX Runtime.
        architecture: Of the model that the graph was exported from; None where it does not say.

    Raises:
        ProviderError: The provider asked for, or ONNX Runtime itself, cannot be had; the message has cause
            and cure.
        ModelError: The graph is damaged, is not the one that the manifest describes, or reads files
            that the manifest does not name.
        MissingExtraError: ONNX Runtime is not installed.
    """

    provider: Provider
    reason: str

    def __init__(
        self,
        bundle: Bundle,
        *,
        provider: ProviderChoice = "auto",
        threads: int | None = None,
        streams: int = 1,
    ) -> None:
        if provider not in get_args(ProviderChoice):
            known = ", ".join(get_args(ProviderChoice))
            raise ProviderError(f"there is no provider '{provider}': choose one of {known}")
        if threads is not None and threads < 1:
            raise ProviderError(f"a session cannot have {threads} threads: ask for at least one")
        _check_files(bundle)
        self.bundle = bundle
        self.threads = usable_threads(threads)
        self._runtime = import_runtime()
        self.version: str = self._runtime.__version__
        session, self.provider, self.reason = self._open(provider, streams)
        self.streams = 1 if self.provider in ON_NVIDIA else streams
        graphs = self.provider == "cuda-graphs"
        self._graph = Replay(self._runtime, session, bundle.manifest) if graphs else session
        _check_inputs(bundle, session.get_inputs())
        _check_outputs(bundle, session.get_outputs())
        metadata = session.get_modelmeta().custom_metadata_map
        _check_task(bundle, metadata)
        self.architecture = Architecture.from_metadata(metadata)

    def run(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """Compute every output of the graph, by name, for a batch.

        Raises:
            ModelError: The graph fails on this batch.
            ProviderError: A CUDA graph gives other values than a plain run.
        """
        names = list(self.bundle.manifest.outputs)
        graph = self._graph
        if graph is None:
            raise ModelError(f"{self.bundle.folder} was closed: open it again")
        try:
            outputs = graph.run(names, {name: getattr(batch, name) for name in INPUTS})
        except TwilError:
            raise
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            rows, tokens = batch.input_ids.shape
            raise ModelError(
                f"{self.bundle.graph} fails on a batch of {rows} rows of {tokens} tokens "
                f"({first_line(error)}): if memory ran out, take smaller batches (--batch-tokens)"
            ) from error
        return dict(zip(names, outputs, strict=True))

    def close(self) -> None:
        """Let the graph and its memory go, once the batches that are being computed are done."""
        if isinstance(self._graph, Replay):
            self._graph.close()
        self._graph = None

    def _open(self, choice: ProviderChoice, streams: int) -> tuple[Any, Provider, str]:
        if choice == "cpu":
            return self._open_cpu(), "cpu", ""
        manifest = self.bundle.manifest
        wanted: Provider = "cuda" if choice == "auto" else choice
        request = ProviderRequest(wanted, self.threads, streams, manifest.max_length, manifest.precision)
        found = open_on(self._runtime, self.bundle.graph, request)
        if not isinstance(found, ProviderFailure):
            return found, wanted, "CUDA loads" if choice == "auto" else ""
        if choice != "auto":
            raise ProviderError(f"{request.title} cannot be had, as {found.cause}: {found.cure}")
        return self._open_cpu(), "cpu", found.cause

    def _open_cpu(self) -> Any:
        try:
            return open_graph(self._runtime, self.bundle.graph, threads=self.threads)
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise ModelError(
                f"{self.bundle.graph} cannot be loaded ({first_line(error)}): export the model again"
            ) from error


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


def _check_task(bundle: Bundle, metadata: Mapping[str, str]) -> None:
    """Refuse a manifest with another task than the graph was exported with, where the graph names one."""
    if TASK_KEY not in metadata:
        return
    try:
        task = Task.from_dict(json.loads(metadata[TASK_KEY]))
    except (ValueError, RecursionError, ConfigError) as error:
        raise ModelError(f"{bundle.graph} names no task ({error}): export the model again") from error
    if task != bundle.manifest.task:
        raise ModelError(
            f"{bundle.graph} was exported with another task than its manifest names: export the model again"
        )
