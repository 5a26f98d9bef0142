"""Tables labelled by the machines of a Ray cluster.

Tasks read files with twil's own reader, and actors, each with a graph of its own, predict blocks of rows and
write each as one part of the output. A part is named by its first row: a block that is computed twice,
because a machine was lost, replaces its own part, and the names sort as the rows do.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from twil.bundle.bundle import MANIFEST, Bundle, open_bundle
from twil.bundle.cache import Preparing, prepared
from twil.bundle.providers import ON_NVIDIA, ProviderChoice
from twil.core.errors import ConfigError, DataError, ModelError, TwilError, first_line, require
from twil.data.tables.tables import OnError
from twil.inference.cluster.blocks import BlockPredictor, Job, read_blocks, write_part
from twil.inference.cluster.parts import (
    Output,
    check_apart,
    find_files,
    local_copy,
    output_folder,
    part_name,
    reserved_output,
)
from twil.inference.columns import output_columns
from twil.inference.engine import BATCH_TOKENS
from twil.inference.events import ClusterStarted, ClusterSummary, RowsDone
from twil.inference.inputs import Sources, check_on_error, found_text, open_tables, source_paths
from twil.inference.predictor import classifier_task
from twil.inference.texts import check_texts

BLOCK_BYTES = 2 << 20
"""About how much text is predicted at a time, and written as a part: some ten thousand tweets."""
_READERS = 4  # tables that are read at a time: predicting takes a hundred times as long
_TOLD = re.compile(r"^twil\.core\.errors\.\w+: (.+)$", re.MULTILINE)
_PURPOSE = "--engine ray"


def predict_on_ray(
    source: Sources,
    model: str | Path,
    target: str,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    id_column: str | None = None,
    keep: Sequence[str] = (),
    on_error: OnError = "fail",
    provider: ProviderChoice = "auto",
    workers: int | None = None,
    threads: int = 1,
    batch_tokens: int = BATCH_TOKENS,
    overwrite: bool = False,
) -> Generator[Preparing | ClusterStarted | RowsDone | ClusterSummary, None, None]:
    """Predict every row of some tables on a Ray cluster, and tell on the way how far it is.

    Joins the cluster that this process is in, that of ``RAY_ADDRESS``, or the one of this machine; where
    there is none, the machine alone is it. Every row is predicted as `predict_events` does, with the same
    columns; those of a part are in their order, and sorted by name the parts are.

    Args:
        source: A table, a folder of tables or a pattern, as a path that all machines share or as a URL; or
            several of them, whose tables come in this order.
        model: What a `Predictor` is made of; a path is one of this machine.
        target: The folder of Parquet files, as a path that all machines share or as a URL.
        text: The column with the text. When left out: `TEXT`, else the only one of
            `text`, `texto`, `tweet`, `full_text`, `content` and `review`.
        text_pair: The column with the second text, where the model takes pairs.
        id_column: The column that names the rows. When left out: `ID`, in any case, where the tables have it.
        keep: Columns of the input to repeat.
        on_error: What a bad row leads to: ``fail``, ``skip`` or ``mark``.
        provider: Where to run; with ``cuda``, ``cuda-graphs`` or ``tensorrt`` a worker has a GPU.
        workers: Actors, each with a graph; as many as the cluster has room for when left out.
        threads: CPUs of a worker, which share one copy of the graph.
        batch_tokens: Tokens of a batch, pads included.
        overwrite: Replace an output of twil.

    Yields:
        `Preparing` where the model is no bundle, `ClusterStarted`, then `RowsDone` with every part, and last
        `ClusterSummary`.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: `on_error` is unknown, or the cluster has not as many CPUs or GPUs.
        DataError: The tables cannot be read as asked.
        ModelError: The bundle is damaged, is an encoder's, or takes pairs where there are none.
        TwilError: The output is there already or is written by another process, or the cluster failed.
    """
    require("ray", purpose=_PURPOSE)
    check_on_error(on_error)
    if threads < 1 or (workers is not None and workers < 1):
        raise ConfigError("there is at least one worker, and it has at least one thread")
    asked = (text,) if text_pair is None else (text, text_pair)
    parts: dict[str, dict[str, Any]] = {}

    def total(key: str) -> int:
        return sum(part[key] for part in parts.values())

    with reserved_output(target, overwrite=overwrite):
        bundle = open_bundle((yield from prepared(model, "classifier")))
        task = classifier_task(bundle)
        check_texts(bundle, asked, pair=task.pair)
        files = [file for path in source_paths(source) for file in find_files(str(path))]
        if twice := [file for file, count in Counter(files).items() if count > 1]:
            raise DataError("is named twice, and its rows would be there twice: name it once", file=twice[0])
        check_apart(files, target)
        with local_copy(files[0]) as path:  # what its first lines tell is told before any work
            _, texts, found_id = open_tables(path, asked, id_column, keep)
        job = Job(
            texts, found_id, id_column is not None, tuple(keep), on_error, provider, threads, batch_tokens
        )
        columns = output_columns(task, job.repeated, errors=on_error == "mark")
        begin = perf_counter()
        # The cluster ends first, so that nothing is written to a folder that was given up. It also begins
        # first: where it cannot, an older output stays.
        with ExitStack() as outputs, _cluster() as ray:
            workers = _check_room(ray, job, workers)
            content = _ship(ray, bundle)
            output = outputs.enter_context(output_folder(target, overwrite=overwrite))
            yield ClusterStarted(
                bundle.folder,
                workers,
                threads,
                len(files),
                tuple(columns),
                found_id,
                found_text(text, texts[0]),
            )
            for part in _predicted_parts(ray, job, files, content, output, workers):
                parts[part["name"]] = part
                yield RowsDone(total("rows"), perf_counter() - begin)
            written = {name for name, part in parts.items() if part["rows"]}
            if not written:  # a folder without a part would have no columns
                written = {part_name(0, 0)}
                write_part(output, part_name(0, 0), columns, {name: [] for name in columns})
            output.check(written)
    yield ClusterSummary(
        rows=total("rows"),
        seconds=perf_counter() - begin,
        truncated=total("truncated"),
        empty=total("empty"),
        skipped=total("bad") if on_error == "skip" else 0,
        marked=total("bad") if on_error == "mark" else 0,
        workers=workers,
        parts=len(written),
        providers=tuple(sorted({part["provider"] for part in parts.values()})),
    )


def _predicted_parts(
    ray: Any, job: Job, files: Sequence[str], content: Mapping[str, Any], output: Output, workers: int
) -> Iterator[dict[str, Any]]:
    """Have all tables read, predicted and written, and yield what is known of each part."""
    data = require("ray.data", purpose=_PURPOSE)
    context = data.DataContext.get_current().copy()
    context.target_max_block_size = BLOCK_BYTES
    context.max_errored_blocks = 0
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what happens is told here
    with data.DataContext.current(context):
        tables = [{"file": number, "path": path} for number, path in enumerate(files)]
        parts = (
            data.from_items(tables, override_num_blocks=len(tables))
            # Of no CPU: workers may hold all of them, and would wait for their first block for ever.
            .map_batches(
                read_blocks,
                fn_kwargs={"job": job},
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=0,
                compute=data.TaskPoolStrategy(size=min(_READERS, len(tables))),
            )
            .map_batches(
                _Worker,
                fn_constructor_args=(job, content, output),
                batch_size=None,
                batch_format="pyarrow",
                compute=data.ActorPoolStrategy(size=workers),
                num_cpus=job.threads,
                num_gpus=1 if job.provider in ON_NVIDIA else None,
            )
        )
        try:
            yield from parts.iter_rows()
        except (ray.exceptions.RayError, TwilError) as error:
            raise _cause(error) from error


class _Worker(BlockPredictor):
    """Takes the bundle from the cluster's store of objects."""

    def __init__(self, job: Job, content: Mapping[str, Any], output: Output) -> None:
        ray = require("ray", purpose=_PURPOSE)
        super().__init__(job, {name: ray.get(reference) for name, reference in content.items()}, output)


@contextmanager
def _cluster() -> Iterator[Any]:
    """Join a cluster, or start one of this machine for as long as the block lasts."""
    ray = require("ray", purpose=_PURPOSE)
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster started here tells nobody
    try:
        ray.init(log_to_driver=False, logging_level="error", include_dashboard=False)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise TwilError(
            f"no Ray cluster can be joined or started ({first_line(error)}): check RAY_ADDRESS and ray status"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_room(ray: Any, job: Job, workers: int | None) -> int:
    """Return how many workers there are to be.

    Raises:
        ConfigError: The cluster has no room for them.
    """
    wanted = {"CPU": job.threads} | ({"GPU": 1} if job.provider in ON_NVIDIA else {})
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(
        min(int(machine.get(kind, 0) // count) for kind, count in wanted.items()) for machine in machines
    )
    if room < (workers or 1):
        said = " and ".join(f"{count} {kind}" for kind, count in wanted.items())
        raise ConfigError(
            f"the cluster has room for {room} workers of {said} each, and {workers or 1} are asked for: "
            "ask for less (--workers, --threads), or add machines"
        )
    return workers or room


def _ship(ray: Any, bundle: Bundle) -> dict[str, Any]:
    """Put a bundle's files where all machines find them.

    Raises:
        ModelError: They are too large for a machine's store of objects.
    """
    files = {name: bundle.folder / name for name in (*bundle.manifest.files, MANIFEST)}
    size = sum(path.stat().st_size for path in files.values())
    stores = [node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"]]
    if size > min(stores) / 2:  # the rest is for rows on their way
        raise ModelError(
            f"{bundle.folder} has {size / 2**20:,.0f} MiB, and a machine of the cluster keeps "
            f"{min(stores) / 2**20:,.0f} MiB of objects, twice as much is needed: start Ray with a larger "
            "--object-store-memory"
        )
    return {name: ray.put(np.fromfile(path, dtype=np.uint8)) for name, path in files.items()}


def _cause(error: BaseException) -> TwilError:
    """Find what twil said on another machine, or say what Ray says in one line."""
    seen: BaseException | None = error
    while seen is not None:
        # What Ray raises is of the other error's type, too, and says its traceback.
        found = getattr(seen, "cause", None) or seen
        if isinstance(found, TwilError):
            said = str(found).splitlines()[0]  # Ray adds advice to it
            return DataError(said) if isinstance(found, DataError) else TwilError(said)
        seen = seen.__cause__
    if told := _TOLD.findall(str(error)):  # of what a worker's own code raises, Ray keeps the traceback alone
        return TwilError(told[-1])
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return TwilError(f"the Ray cluster failed ({lines[-1].strip()}): look at ray status and at its logs")
