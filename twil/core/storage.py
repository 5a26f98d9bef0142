"""Files and folders that appear whole or not at all, each written by one run at a time."""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from twil.core.errors import BusyError, ModelError, NoRoomError, TwilError

# Windows locks in a way of its own.
fcntl: Any = None if os.name == "nt" else importlib.import_module("fcntl")
msvcrt: Any = importlib.import_module("msvcrt") if os.name == "nt" else None

_DESCRIPTOR = re.compile(r"/dev/(?:stdin|stdout|stderr|fd/\d+)|/proc/[^/]+/fd/\d+")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ATTEMPTS = 10  # at a lock whose holders end and remove it just then

_reserved: dict[Path, bool] = {}
"""The outputs that are being made in this process, and whether what is there may be replaced."""


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and move it there once the block has ended well.

    The content is flushed to disk before the move. When the block raises, `path` is left as it was
    and the temporary file is removed.

    A link is followed: the file that it leads to is replaced, not the link. What has appeared since
    `reserved_files` found the path vacant stays, and the new file is kept beside it under another name.

    Raises:
        TwilError: There is no folder for it, it is a device or a pipe, or the system refuses a file there;
            or something else has appeared there.
    """
    path = Path(path)
    check_parent(path)
    _check_no_device(path)
    end = _follow(path)
    temporary = end.with_name(f".{os.getpid()}-{os.urandom(4).hex()}.{_written_as(path, end)}")
    try:
        yield temporary
        _sync(temporary)
        may_replace = _reserved.get(path.absolute())
        if end.exists() and (may_replace is False or (may_replace and end.is_dir())):
            raise _keep(temporary, end)
        temporary.replace(end)
        _sync(end.parent)
    except OSError as error:
        if error.errno in _FULL:
            raise _no_room(path, error) from error
        if error.filename is None or os.fspath(error.filename) != str(temporary):
            raise
        # The temporary name, which is in the system's own words, would tell a person nothing.
        raise TwilError(f"{path} cannot be written ({error.strerror}): choose another output") from error
    finally:
        _remove(temporary)


def remove_leftovers(path: str | Path) -> None:
    """Remove the temporary files and folders that killed writes of `path` left beside it.

    To be called where this run holds the lock of it, see `sole_writer`: they are those of no other.
    """
    end = _follow(Path(path))
    name, written = re.escape(end.name), re.escape(_written_as(Path(path), end))
    form = re.compile(rf"\.\d+-[0-9a-f]{{8}}\.{written}|\.{name}-\d+-[0-9a-f]{{8}}")
    with suppress(OSError):  # the folder may not be listed
        for entry in end.parent.iterdir():
            if not form.fullmatch(entry.name):
                continue
            if entry.is_dir() and not entry.is_symlink():
                _remove_folder(entry)
            else:
                _remove(entry)


@contextmanager
def atomic_folder(path: str | Path, *, overwrite: bool = False, own: Collection[str] = ()) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`, and move it there once the block has ended well.

    A link is followed, as by `atomic_file`: the folder appears where it leads.

    Args:
        path: Where the folder ends up.
        overwrite: Replace what is there; otherwise a non-empty `path` is an error.
        own: Names of what such a folder holds; one that holds anything else is never replaced.

    Raises:
        TwilError: `path` is taken, or nothing can be written there. Where it has been taken since the work
            began, or the system refuses the place of a `reserved_folder` at the end, what was written is kept
            beside it under another name.
    """
    path = Path(path)
    if path.absolute() not in _reserved:  # it was vacant then, and what was made since must not be lost
        check_vacant(path, overwrite=overwrite, own=own)
    end = _end(path)  # a folder cannot be renamed onto a link
    temporary = end.with_name(f".{end.name}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        temporary.mkdir()
    except OSError as error:
        raise TwilError(f"{path} cannot be written ({error.strerror}): choose another folder") from error
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():  # some writers keep what they wrote to its owner
                file.chmod(0o666 & ~_umask())
            _sync(file)
        try:
            check_vacant(path, overwrite=overwrite, own=own)
        except TwilError as error:
            raise _keep(temporary, end) from error
        try:
            _move_folder(temporary, end)
        except OSError as error:  # it is where a disk is mounted, for one
            if path.absolute() not in _reserved:
                raise
            raise _keep(temporary, end, error) from error
        _sync(end.parent)
    except OSError as error:
        if error.errno in _FULL:
            raise _no_room(path, error) from error
        raise
    finally:
        _remove_folder(temporary)


@contextmanager
def reserved_folder(
    path: str | Path, *, overwrite: bool = False, own: Collection[str] = ()
) -> Iterator[None]:
    """Hold a place for a folder from before the work that makes it until it is there.

    The block, in which `atomic_folder` is called at whatever depth, is the only one that writes it, of this
    process and of all others; see `sole_writer`.

    Args:
        path: Where the folder ends up.
        overwrite: It may replace a folder that holds nothing but what is named in `own`.
        own: Names of what such a folder holds.

    Raises:
        TwilError: `path` is taken, another run writes it, or nothing can be written there.
    """
    with sole_writer(path):
        check_vacant(path, overwrite=overwrite, own=own)
        with _noted(path, overwrite=overwrite):
            yield


@contextmanager
def reserved_files(*paths: str | Path, overwrite: bool = False) -> Iterator[None]:
    """Hold the places of files from before the work that makes them until they are there.

    As `reserved_folder`, for files that `atomic_file` writes.

    Args:
        paths: Where the files end up.
        overwrite: They may replace files.

    Raises:
        TwilError: One is taken or named twice, another run writes it, or nothing can be written there.
    """
    with ExitStack() as stack:
        ends = set[Path]()
        for path in paths:
            if (end := _follow(Path(path))) in ends:
                raise TwilError(f"{path} is named twice as an output: name it once")
            ends.add(end)
            stack.enter_context(sole_writer(path))
            check_vacant_file(path, overwrite=overwrite)
            stack.enter_context(_noted(path, overwrite=overwrite))
        yield


@contextmanager
def sole_writer(output: str | Path) -> Iterator[bool]:
    """Be the only run that writes an output, whatever names and links lead to it; tell whether that is sure.

    The lock is one of the system, which lets go of it however the process ends, on a file beside the output
    that is removed at the end. One that a killed process has left locks nothing. A folder beside which
    nothing may be written is locked itself. Where a system has no such locks, nobody is kept out. What killed
    runs have left of the output is removed.

    Raises:
        BusyError: Another run writes it.
        TwilError: It is a device or a pipe, or nothing can be written beside it.
    """
    output = Path(output)
    _check_no_device(output)
    end = _follow(output)
    if not (output.name and output.is_dir()):
        check_parent(output)
    lock = end.parent / f".{end.name}.lock"
    descriptor, beside, held = _take(lock, end, output)
    with ExitStack() as stack:
        # Windows removes no file that is open, whoever has it open, and another system removes it while it is
        # locked: who takes it then finds that it leads nowhere.
        ends = [partial(_release, descriptor), *([partial(_remove, lock)] if beside else [])]
        for last in ends if fcntl else ends[::-1]:
            stack.callback(last)
        if held:
            remove_leftovers(output)
        yield held


def check_vacant(path: str | Path, *, overwrite: bool = False, own: Collection[str] = ()) -> None:
    """Refuse a path where no folder can be written: it is taken, or lies in no folder.

    Args:
        path: The folder to be written.
        overwrite: It may replace a folder that holds nothing but what is named in `own`.
        own: Names of what such a folder holds.

    Raises:
        TwilError: There is a file, a folder that may not be replaced, or no parent.
    """
    path = Path(path)
    check_parent(path)
    _check_no_device(path)
    if path.is_file():
        raise TwilError(f"{path} is a file, and a folder is to be written there: choose another name")
    held = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if held and not overwrite:
        raise TwilError(f"{path} is there already: choose another name, or replace it with --force")
    foreign = [name for name in held if name not in own]
    if foreign:
        raise TwilError(
            f"{path} holds what twil did not write there ({', '.join(foreign[:3])}) and is not replaced: "
            "choose another name"
        )


def check_vacant_file(path: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a path where no file can be written: it is taken, or lies in no folder.

    Raises:
        TwilError: There is a folder, a file that may not be overwritten, or no parent.
    """
    path = Path(path)
    check_parent(path)
    _check_no_device(path)
    if path.is_dir():
        raise TwilError(f"{path} is a folder, and a file is to be written there: choose another name")
    if path.exists() and not overwrite:
        raise TwilError(f"{path} is there already: choose another name, or replace it with --force")


def with_name(path: str | Path) -> Path:
    """Give a path that ends in a name, which ``.`` has none of: what lies beside it is called after it."""
    path = Path(path)
    return path if path.name else path.absolute()


def check_parent(path: str | Path) -> None:
    """Refuse a path without a name, or whose folder does not exist or takes no files; a link is followed.

    Raises:
        TwilError: It names the command that makes the folder, or asks for another.
    """
    path = Path(path)
    if not path.name:
        raise TwilError(f"'{path}' is no name for an output: give it one")
    parent = _end(path).parent
    if not parent.is_dir():
        raise TwilError(f"there is no folder {parent}: make it first (mkdir -p {parent})")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise TwilError(
            f"{path} cannot be written (nothing may be written in {parent}): choose another folder"
        )


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as readable JSON, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds settings by name; empty where it holds something else.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({error}): copy the folder again") from error
    return value if isinstance(value, dict) else {}


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


LFS_POINTER = "stands for a file that Git LFS has not fetched yet: run git lfs pull there"
"""What is said of such a file, behind its name."""
_POINTER = b"version https://git-lfs.github.com/spec/"
_LARGEST_POINTER = 1024  # bytes


def is_lfs_pointer(path: str | Path) -> bool:
    """Tell whether a file is what Git LFS puts in a large file's place until `git lfs pull` fetches that."""
    path = Path(path)
    if not path.is_file() or path.stat().st_size > _LARGEST_POINTER:
        return False
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def _move_folder(source: Path, target: Path) -> None:
    if not target.exists():
        source.replace(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    aside = old / "folder"
    try:
        target.replace(aside)  # a folder cannot be exchanged in one step on every system
        source.replace(target)
    except BaseException:
        if aside.exists():
            aside.replace(target)  # where that fails, it stays aside
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def is_device(path: str | Path) -> bool:
    """Tell whether a path is a device, a pipe, or an open file of a process, such as ``/dev/stdout``."""
    if _DESCRIPTOR.fullmatch(os.path.abspath(path)):  # noqa: PTH100 - links are not followed
        return True
    path = Path(path)
    return path.exists() and not path.is_file() and not path.is_dir()


def _check_no_device(path: Path) -> None:
    """Refuse what would be lost if a file or folder took its place, such as ``/dev/null``."""
    if is_device(path):
        raise TwilError(f"{path} is a device or a pipe, which would be replaced: choose another output")


@contextmanager
def _noted(path: str | Path, *, overwrite: bool) -> Iterator[None]:
    place = Path(path).absolute()
    _reserved[place] = overwrite
    try:
        yield
    finally:
        _reserved.pop(place, None)  # without locks, another run in this process may have come and gone


def _no_room(path: Path, error: OSError) -> NoRoomError:
    return NoRoomError(
        f"{path} cannot be written ({error.strerror}): make room there, or choose another output"
    )


def _keep(temporary: Path, path: Path, error: OSError | None = None) -> TwilError:
    """Give what was made for a path a name beside it, and say which: it is taken by now, or refused."""
    stem, ending = (path.name, "") if temporary.is_dir() else (path.stem, path.suffix)
    names = (path.with_name(f"{stem}-{number}{ending}") for number in count(2))
    kept = next(name for name in names if not name.exists())
    temporary.replace(kept)
    why = (
        f"{path} cannot be written ({error.strerror})"
        if error
        else f"another process has written {path} meanwhile, and it is not replaced"
    )
    return TwilError(f"{why}: what was made is in {kept}")


def _take(lock: Path, end: Path, output: Path) -> tuple[int, bool, bool]:
    """Take the lock of an output.

    Returns:
        It, open; whether it is the file and not the output itself; whether it locks.
    """
    for _ in range(_ATTEMPTS):
        descriptor, beside = _open_lock(lock, end, output)
        held = _lock(descriptor)
        if held is False:
            os.close(descriptor)
            break
        if not beside or _leads_to(lock, descriptor):
            return descriptor, beside, held is True
        os.close(descriptor)  # who held it has ended, and removed it
    raise BusyError(f"another process is writing {output}: wait for it, or choose another output")


def _open_lock(lock: Path, end: Path, output: Path) -> tuple[int, bool]:
    try:
        # A link that others have put there is not followed, and a pipe not waited for.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(lock, flags, 0o666)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor, True
        os.close(descriptor)
        raise TwilError(
            f"{lock} is no file, and {output} is locked by one: remove it, or choose another output"
        )
    except OSError as error:
        if not (fcntl and end.is_dir()):
            raise TwilError(
                f"{output} cannot be written ({error.strerror}: {lock}): choose another output, or remove "
                "that file where no run is at work"
            ) from error
    return os.open(end, os.O_RDONLY), False


def _lock(descriptor: int) -> bool | None:
    """Lock an open file for this process; False where another one has it, None where there are no locks."""
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _release(descriptor: int) -> None:
    with suppress(OSError):  # a file system without locks
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child that has the file open would keep the lock
        else:
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    os.close(descriptor)


def _remove_folder(folder: Path) -> None:
    """Remove a folder, as far as it may be."""
    with suppress(MemoryError):
        shutil.rmtree(folder, ignore_errors=True)
    # Where there was too little memory, or no file could be opened; this way needs fewer of them.
    for path, _, files in os.walk(folder, topdown=False):
        for name in files:
            _remove(Path(path) / name)
        with suppress(OSError):
            Path(path).rmdir()


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _follow(path: Path) -> Path:
    """Give where a path leads; of links that lead in a circle, itself."""
    return Path(os.path.realpath(path))  # Path.resolve raises there


def _written_as(path: Path, end: Path) -> str:
    """Name what a path leads to such that writers, which look at endings, write it as the path says."""
    return end.name if end.suffix == path.suffix else end.name + path.suffix


def _end(path: Path) -> Path:
    """Give where a link leads; any other path as it is, for messages to name."""
    return _follow(path) if path.is_symlink() else path


def _remove(temporary: Path) -> None:
    with suppress(OSError):  # a name that the system refused cannot be removed, either
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows flushes no other
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
