"""Model folders and models of the hub, exported once into the user's cache, where bundles are run from.

The export needs PyTorch, which nothing here may load: `twil export` does it in a process of its own.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twil.bundle.bundle import Kind, is_bundle, open_bundle
from twil.bundle.names import FoundModel, find_model
from twil.core.errors import BusyError, MissingExtraError, ModelError, TwilError, first_line
from twil.core.storage import atomic_folder, read_json, sha256, sole_writer, write_json
from twil.core.version import __version__

CACHE_VARIABLE = "TWIL_CACHE"
"""The variable of the environment that names another folder for the cache."""
OPTIONS = ("--onnx", "--optimize", "--precision", "fp32")
"""How models are exported: in the arithmetic that they were trained in, which keeps every prediction."""

_RECORD = "made.json"
_DECIDES = (".json", ".txt", ".model", ".codes", ".safetensors", ".bin")
"""Endings of the files of a model folder that the export reads."""
_ENTRY = re.compile(r"\.?([\w-][\w.-]*-[0-9a-f]{16})(-(?:\d+-)?.{8})?")
"""The name of an entry of the cache, or of what killed processes left of one; nothing else is removed."""
_ERROR = "twil: error: "
_PATIENCE = 5.0  # seconds, for the export to put its files away where it is not wanted any more
_POLL = 0.2  # seconds, between two looks at what another process exports


@dataclass(frozen=True)
class Preparing:
    """A model that is no bundle is made one, which takes time.

    Attributes:
        said: What is done, in a sentence.
    """

    said: str


@dataclass(frozen=True)
class CachedModel:
    """A bundle in the cache.

    Attributes:
        name: Of its folder there.
        model: What it was made of: a model folder, or the name of a model of the hub.
        revision: That model's revision on the hub; empty of a folder.
        kind: What it gives.
        made: When, as ISO 8601 has it.
        seconds: What making it took.
        twil: The version of twil that made it.
        size: Its bytes.
    """

    name: str
    model: str
    revision: str
    kind: str
    made: str
    seconds: float
    twil: str
    size: int

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return asdict(self)


def cache_folder() -> Path:
    """Return where exported models are kept: ``TWIL_CACHE``, else ``twil`` in the user's cache folder."""
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own)
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "twil"  # noqa: PTH117


def bundle_of(model: str | Path | None, kind: Kind | None, preparation: str | None = None) -> Path:
    """Return the bundle that a model is run from, as `prepared` does, without a word on the way."""
    steps = prepared(model, kind, preparation)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            folder: Path = end.value
            return folder


def prepared(
    model: str | Path | None, kind: Kind | None, preparation: str | None = None
) -> Generator[Preparing, None, Path]:
    """Return the bundle that a model is run from; one that is none is exported first, where it is not yet.

    Args:
        model: A bundle or a model folder, the name of a model that comes with twil or is on the hub; of None
            the default.
        kind: What it is asked for; where it is None, a classifier's labels if it has any, else vectors.
        preparation: How texts are prepared for a model that does not say so; no bundle is given one.

    Yields:
        What is done about an export.

    Raises:
        ModelError: There is no such model, or it cannot be exported.
        MissingExtraError: What exports is not installed.
        TwilError: The cache cannot be written.
    """
    found = find_model(model)
    folder = found.origin != "hub"
    if folder and (is_bundle(found.path) or not _is_model_folder(found.path)):
        return found.path  # where it is no bundle, opening it says so
    stem = re.sub(r"[^\w.-]+", "-", found.path.absolute().name, flags=re.ASCII).strip(".-") or "model"
    options = (
        *OPTIONS,
        *(("--head", kind) if kind else ()),
        *(("--preparation", preparation) if preparation else ()),
    )
    entry = _entries() / f"{stem}-{_digest(found, options)}"
    bundle = entry / stem  # predictions are told, and their columns are called, by this name
    if _is_sound(bundle):
        return bundle
    _check_installed(found)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TwilError(
            f"{entry.parent} cannot be made ({first_line(error)}): name another folder for exported models "
            f"in {CACHE_VARIABLE}"
        ) from error
    with ExitStack() as alone:
        yield from _awaited(entry, alone)
        if not _is_sound(bundle):  # another process may have made it meanwhile
            yield from _make(bundle, found, options)
    return bundle


def cached_models() -> list[CachedModel]:
    """List what is in the cache, oldest first; what was left half-made is none of it."""
    found = []
    for name in cached_names():
        with suppress(TwilError):
            found.append(_read(_entries() / name))
    return sorted(found, key=lambda cached: (cached.made, cached.name))


def cached_names() -> list[str]:
    """List the names of all that is in the cache, what was left half-made, too."""
    folders = [entry.name for entry in _entries().iterdir() if entry.is_dir()] if _entries().is_dir() else []
    return sorted({match[1] for match in map(_ENTRY.fullmatch, folders) if match})


def remove_cached(name: str) -> int:
    """Remove a bundle from the cache, by the name of its folder there; return its bytes.

    Raises:
        ModelError: There is none.
        BusyError: It is being made.
    """
    entry = _entries() / name
    if name not in cached_names():
        raise ModelError(f"the cache holds no model {name}: twil models lists those that it holds")
    with sole_writer(entry):
        return _clear(entry)


def _entries() -> Path:
    return cache_folder() / "exported"


def _is_model_folder(path: Path) -> bool:
    return any((path / name).is_file() for name in ("config.json", "modules.json"))


def _digest(found: FoundModel, options: Sequence[str]) -> str:
    """Give a few characters that stand for all that decides what a model's export computes."""
    decides = {
        "model": found.name if found.origin == "hub" else _file_hashes(found.path),
        "options": options,
        "twil": __version__,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def _file_hashes(folder: Path) -> dict[str, str]:
    """Give the SHA-256 of the files of a model folder that decide its export, and of its modules'."""
    modular = (folder / "modules.json").is_file()  # of sentence-transformers, each in a folder of its own
    files = [*folder.iterdir(), *(folder.glob("*/*") if modular else ())]
    return {
        file.relative_to(folder).as_posix(): sha256(file)
        for file in sorted(files)
        if file.suffix in _DECIDES and file.is_file()
    }


def _is_sound(bundle: Path) -> bool:
    """Tell whether a bundle of the cache is whole."""
    try:
        open_bundle(bundle)
        _read(bundle.parent)
    except (TwilError, OSError):
        return False
    return True


def _read(entry: Path) -> CachedModel:
    record = read_json(entry / _RECORD)
    try:
        return CachedModel(name=entry.name, size=_size(entry), **record)
    except TypeError as error:
        raise ModelError(f"{entry / _RECORD} is no record of twil's: remove {entry}") from error


def _size(entry: Path) -> int:
    return sum(file.stat().st_size for file in entry.rglob("*") if file.is_file())


def _check_installed(found: FoundModel) -> None:
    """Refuse a model that cannot be exported here; nothing of PyTorch is loaded to find out."""
    needed = {"torch": "train", "onnx": "train"} | ({"transformers": "hub"} if found.origin == "hub" else {})
    for module, extra in needed.items():
        if importlib.util.find_spec(module) is None:
            what = "the hub's model" if found.origin == "hub" else "the model folder"
            raise MissingExtraError(extra, f"{what} {found.name} is exported before it is run, which")


def _awaited(entry: Path, alone: ExitStack) -> Iterator[Preparing]:
    """Become the only process that makes a bundle of the cache."""
    said = False
    while True:
        try:
            alone.enter_context(sole_writer(entry))
        except BusyError:
            if not said:
                yield Preparing("another process exports this model: waiting for it")
            said = True
            time.sleep(_POLL)
        else:
            return


def _make(bundle: Path, found: FoundModel, options: Sequence[str]) -> Generator[Preparing, None, None]:
    """Export a model into the cache, whole or not at all; what is damaged there makes room."""
    entry = bundle.parent
    if entry.exists():
        yield Preparing(f"what is kept in {entry} is damaged, and is made anew")
    yield Preparing(f"{found.name} is exported once, in fp32, for this and later runs")
    begin = time.perf_counter()
    _clear(entry)
    with atomic_folder(entry) as folder:
        yield from _export(found, options, folder / bundle.name)
        seconds = round(time.perf_counter() - begin, 1)
        hub = found.origin == "hub"
        record = {
            "model": found.name if hub else str(found.path.absolute()),
            "revision": _revision(found.name) if hub else "",
            "kind": open_bundle(folder / bundle.name).manifest.kind,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": seconds,
            "twil": __version__,
        }
        write_json(folder / _RECORD, record)
    yield Preparing(f"exported in {seconds:.1f} s, kept in {entry} (twil models lists what is kept)")


def _export(found: FoundModel, options: Sequence[str], target: Path) -> Generator[Preparing, None, None]:
    """Have `twil export` write a bundle, and pass on what it says; it ends with the caller at the latest."""
    # Nothing is imported from where one stands.
    command = [sys.executable, "-P", "-m", "twil", "export", str(found.path), "-o", str(target), *options]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
    )
    last = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            last = line.strip() or last
            if not last.startswith(_ERROR):
                yield Preparing(last.replace(str(target), found.name))
        code = process.wait()
    finally:
        _end(process)
    if code:
        how = f"the export ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}: {last}"
        said = last.removeprefix(_ERROR) if last.startswith(_ERROR) else how
        raise ModelError(f"{found.name} cannot be run: {said}")


def _end(process: subprocess.Popen[str]) -> None:
    """End an export that is not wanted any more, and close the pipe from it."""
    with process:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                pass
            finally:
                process.kill()


def _revision(name: str) -> str:
    """Return the revision of a model of the hub that lies in the hub's own cache; empty where none does."""
    from huggingface_hub import try_to_load_from_cache  # it comes with the tokenizers library

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent.name if isinstance(found, str) else ""


def _clear(entry: Path) -> int:
    """Remove an entry of the cache, and what killed processes left of it; return its bytes."""
    size = 0
    for folder in (entry, *entry.parent.glob(f".{entry.name}-*")):
        size += _size(folder)
        (folder / _RECORD).unlink(missing_ok=True)  # first: what a kill leaves is not taken for whole
        shutil.rmtree(folder, ignore_errors=True)
    return size
