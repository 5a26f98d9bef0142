"""A folder of tables that many machines write together: where they read and where they write."""

from __future__ import annotations

import fnmatch
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs

from twil.core.errors import DataError, TwilError, first_line
from twil.core.storage import atomic_folder, reserved_folder
from twil.data.tables.formats import find_format
from twil.data.tables.streams import is_stream

DONE = "_SUCCESS"
"""The file that is written last to a folder that cannot be moved into its place."""

_PART = re.compile(r"part-\d{6}-\d{12}\.parquet")
_SCHEMES = ("s3", "gs", "file")  # whose paths name all that there is: others have hosts and accounts
_WILD = re.compile(r"[*?\[]")


def part_name(file: int, number: int) -> str:
    """Name a part by the first row that it holds, such that parts sort by their rows."""
    return f"part-{file:06d}-{number:012d}.parquet"


def find_files(source: str) -> list[str]:
    """List the tables that a path, a folder, a pattern (``*.parquet``) or a URL of any of them names.

    Returns:
        Their paths or URLs, sorted. Of a folder those whose ending tells a format; hidden ones, and those
        whose name begins with ``_``, are none of them.

    Raises:
        DataError: There is none, it is a stream, or the storage cannot be read.
    """
    if is_stream(source):
        raise DataError("a stream is read by one machine: label it with --engine local", file=source)
    with _storage_errors(source):
        system, path, scheme = _locate(source)
        pattern = PurePosixPath(path)
        exact = not scheme and Path(path).exists()  # whatever signs its name holds
        if _WILD.search(path) and not exact:
            root = str(PurePosixPath(*_before_wild(pattern.parts)))
            found = [name for name in _walk(system, root) if _matches(PurePosixPath(name), pattern)]
        elif system.get_file_info(path).type == pa.fs.FileType.Directory:
            found = [name for name in _walk(system, path) if _is_table(PurePosixPath(name), path)]
        else:
            found = [path] if system.get_file_info(path).is_file else []
    if not found:
        raise DataError("there is no such table: name a file, a folder or a pattern", file=source)
    return [scheme + quote(name) if scheme else name for name in sorted(found)]


@contextmanager
def local_copy(source: str) -> Iterator[str]:
    """Give the path of a table on this machine: its own, or that of a copy while the block lasts."""
    if not _is_url(source):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="twil-") as folder:
        copy = Path(folder) / PurePosixPath(source).name
        with _storage_errors(source):
            system, path, _ = _locate(source)
            with system.open_input_stream(path, compression=None) as stream, copy.open("wb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)
        try:
            yield str(copy)
        except DataError as error:
            raise DataError(str(error).replace(str(copy), source)) from error


class Output(Protocol):
    """A folder of parts in the making. It goes to other machines, so it holds nothing that is open."""

    def write(self, name: str, part: Path) -> None:
        """Take a part that was written on this machine, in place of an older one of its name."""
        ...

    def check(self, names: set[str]) -> None:
        """Raise where one of these parts did not come to the folder."""
        ...


@contextmanager
def output_folder(target: str, *, overwrite: bool) -> Iterator[Output]:
    """Give a folder of parts, which is complete once the block has ended well.

    A folder of this machine appears whole or not at all. In object stores nothing can be moved: there the
    parts appear one by one, `DONE` behind the last, and they are removed where the work ends early.

    Args:
        target: A folder that all machines of a cluster share, or a URL.
        overwrite: Replace parts that are there; otherwise anything there is an error.

    Raises:
        TwilError: Something is there, or cannot be written.
    """
    if not _is_url(target):
        path = Path(target).absolute()
        with atomic_folder(path, overwrite=overwrite, own=_own_names(target)) as folder:
            yield _SharedFolder(folder)
        return
    _check_vacant_store(target, overwrite=overwrite)
    store = _Store(target)
    store.clear()
    try:
        yield store
        store.finish()
    except BaseException:
        store.clear()
        raise


def check_apart(files: list[str], target: str) -> None:
    """Refuse an output that is, or holds, what is read.

    Raises:
        DataError: It is.
    """
    with _storage_errors(target):
        system, path, _ = _locate(target)
        for file in files:
            other, name, _ = _locate(file)
            if other.type_name == system.type_name and PurePosixPath(name).is_relative_to(path):
                raise DataError(
                    f"the output would replace what is read ({file}): choose another folder", file=target
                )


@contextmanager
def reserved_output(target: str, *, overwrite: bool) -> Iterator[None]:
    """Hold the place of an output from before the work that makes it; in object stores nothing can be held.

    Args:
        target: A folder or a URL, as of `output_folder`, which is called in the block.
        overwrite: It may replace parts.

    Raises:
        TwilError: It is a stream or is there, or another process writes it.
    """
    if is_stream(target):
        raise DataError("many machines write a folder and no stream: name one with -o", file=target)
    if _is_url(target):
        _check_vacant_store(target, overwrite=overwrite)
        yield
        return
    with reserved_folder(Path(target).absolute(), overwrite=overwrite, own=_own_names(target)):
        yield


def _check_vacant_store(target: str, *, overwrite: bool) -> None:
    held = _held(target)
    if held and not overwrite:
        raise TwilError(f"{target} is there already: choose another name, or replace it with --force")
    if foreign := [PurePosixPath(info.path).name for info in held if not _is_own(info)]:
        raise TwilError(
            f"{target} holds what twil did not write there ({', '.join(foreign[:3])}) and is not replaced: "
            "choose another name"
        )


@dataclass(frozen=True)
class _SharedFolder:
    folder: Path

    def write(self, name: str, part: Path) -> None:
        if not self.folder.is_dir():
            raise TwilError(
                f"a machine of the cluster does not see {self.folder.parent}: name an output on storage that "
                "all of them share, or a URL such as s3://"
            )
        copy = self.folder / f".{name}-{part.parent.name}"
        shutil.copyfile(part, copy)
        copy.replace(self.folder / name)

    def check(self, names: set[str]) -> None:
        found = {entry.name for entry in self.folder.iterdir()}
        if lost := sorted(names - found):
            raise TwilError(
                f"{len(lost)} parts were written on machines whose {self.folder.parent} is another folder: "
                "name an output on storage that all of them share, or a URL such as s3://"
            )
        for name in found - names:  # of a machine that went down while it wrote
            (self.folder / name).unlink()


@dataclass(frozen=True)
class _Store:
    url: str

    def write(self, name: str, part: Path) -> None:
        with _storage_errors(self.url):
            system, path, _ = _locate(self.url)
            system.create_dir(path, recursive=True)
            with part.open("rb") as file, system.open_output_stream(f"{path}/{name}") as stream:
                shutil.copyfileobj(file, stream, 1 << 20)

    def check(self, names: set[str]) -> None:
        lost = names - {PurePosixPath(info.path).name for info in _held(self.url)}
        if lost:
            raise TwilError(f"{self.url} lacks {len(lost)} parts that were written: label the table again")

    def finish(self) -> None:
        with _storage_errors(self.url):
            system, path, _ = _locate(self.url)
            with system.open_output_stream(f"{path}/{DONE}"):
                pass

    def clear(self) -> None:
        held = [info.path for info in _held(self.url) if _is_own(info)]
        with _storage_errors(self.url):
            system, _, _ = _locate(self.url)
            for path in held:
                system.delete_file(path)


def _is_url(path: str) -> bool:
    return "://" in path


def _locate(path: str) -> tuple[Any, str, str]:
    """Return the file system of a path or URL, the path in it, and what makes paths in it URLs."""
    if not _is_url(path):
        return pa.fs.LocalFileSystem(), str(Path(path).absolute()), ""
    scheme, rest = path.split("://", 1)
    if scheme not in _SCHEMES:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        raise DataError(
            f"URLs of {scheme}:// are not used: name one of {known}, or a path where the storage is mounted",
            file=path,
        )
    root, wild, _ = _WILD.sub("\0", rest, count=1).partition("\0")
    system, base = pa.fs.FileSystem.from_uri(f"{scheme}://{root}" if wild else path)
    if wild:  # a pattern is no valid URL
        base += ("/" if root.endswith("/") and not base.endswith("/") else "") + rest[len(root) :]
    return system, base, f"{scheme}://"


def _walk(system: Any, root: str) -> list[str]:
    selector = pa.fs.FileSelector(root, recursive=True, allow_not_found=True)
    return [info.path for info in system.get_file_info(selector) if info.is_file]


def _held(url: str) -> list[Any]:
    """List what lies in a folder itself; its own folders are those of others."""
    with _storage_errors(url):
        system, path, _ = _locate(url)
        return list(system.get_file_info(pa.fs.FileSelector(path, allow_not_found=True)))


def _before_wild(parts: tuple[str, ...]) -> Iterator[str]:
    for part in parts:
        if _WILD.search(part):
            return
        yield part


def _matches(path: PurePosixPath, pattern: PurePosixPath) -> bool:
    """Match part by part: a star does not go into folders."""
    return len(path.parts) == len(pattern.parts) and all(
        fnmatch.fnmatchcase(part, form) for part, form in zip(path.parts, pattern.parts, strict=True)
    )


def _is_table(path: PurePosixPath, root: str) -> bool:
    if any(part.startswith((".", "_")) for part in path.relative_to(root).parts):
        return False
    try:
        find_format(path.name)
    except DataError:
        return False
    return True


def _own_names(target: str) -> set[str]:
    path = Path(target)
    return {entry.name for entry in path.iterdir() if _is_made(entry.name)} if path.is_dir() else set()


def _is_own(info: Any) -> bool:
    return bool(info.is_file) and _is_made(PurePosixPath(info.path).name)


def _is_made(name: str) -> bool:
    return name == DONE or _PART.fullmatch(name) is not None


@contextmanager
def _storage_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"the storage cannot be used ({first_line(error)}): check the name and the access", file=path
        ) from error
