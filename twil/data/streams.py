"""The bytes of a table, in and out: compression, standard streams, and what is plainly not text."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from twil.data.formats import STANDARD_STREAM, Compression
from twil.errors import DataError, first_line
from twil.storage import atomic_file, is_device

BLOCK_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"

_MAGIC = {
    b"\x1f\x8b": "gzip: let its name end in .gz, or name the format (such as tsv.gz)",
    b"\x28\xb5\x2f\xfd": "zstd: let its name end in .zst, or name the format (such as tsv.zst)",
    b"PAR1": "Parquet: let its name end in .parquet, or name the format",
    b"ARROW1": "Arrow: save it as Parquet",
    b"BZh91AY&SY": "bzip2: decompress it, or compress it with gzip or zstd",
    b"\xfd7zXZ\x00": "xz: decompress it, or compress it with gzip or zstd",
    b"PK\x03\x04": "a zip archive or a spreadsheet: unzip it, or save the sheet as TSV",
    b"\xd0\xcf\x11\xe0": "an Office document: save the sheet as TSV",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF-": "a PDF document",
    b"\x89HDF": "HDF5",
    b"SQLite format 3\x00": "an SQLite database: save the query as TSV",
    b"\x80\x02": "a Python pickle",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"\xff\xfe": "UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
}
_NUL_SHARE = 0.01  # a text may hold a stray NUL; UTF-16 and machine formats are full of them


class ByteBlocks:
    """The decompressed bytes of a text file, block by block.

    A file can be read again and again; standard input and pipes are read once and never sought.

    Attributes:
        head: The first bytes, at least the whole first line.

    Raises:
        DataError: There is no such file, it is empty, or what it holds is not text in UTF-8.
    """

    def __init__(self, path: str | Path, compression: Compression | None) -> None:
        self.path = path
        self._compression = compression
        blocks = self._open()
        self.head = _read_head(blocks)
        self._rest: Iterator[bytes] | None = None
        if is_stream(path):
            self._rest = blocks
        else:
            blocks.close()
        _check_text(self.head, path)

    def __iter__(self) -> Iterator[bytes]:
        if not is_stream(self.path):
            yield from self._open()
            return
        rest, self._rest = self._rest, None
        if rest is None:
            raise DataError("a stream can be read only once: save it to a file first", file=self.path)
        yield self.head
        yield from rest

    def _open(self) -> Generator[bytes]:
        with open_bytes(self.path) as file:
            if self._compression is None:
                # read1 hands over what a pipe has, where read would wait for a whole block.
                while block := file.read1(BLOCK_BYTES):
                    yield block
            else:
                yield from self._decompress(file)

    def _decompress(self, file: IO[bytes]) -> Iterator[bytes]:
        import pyarrow as pa  # takes long to import, and most tables are not compressed

        stream = pa.CompressedInputStream(pa.PythonFile(_Borrowed(file), "r"), self._compression)
        try:
            while block := stream.read(BLOCK_BYTES):
                yield block
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"cannot be decompressed as {self._compression} ({first_line(error)}): "
                "it is damaged, cut short, or was never compressed",
                file=self.path,
            ) from error


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A run of whole physical lines.

    Attributes:
        first: The number of its first line in the file, from 1.
        text: The lines, each with the line feed that ends it.
        clean: Every line is UTF-8; otherwise bytes that are not stand as lone surrogates.
    """

    first: int
    text: str
    clean: bool


def text_blocks(blocks: ByteBlocks) -> Iterator[TextBlock]:
    """Decode bytes once per block, cut after line feeds only; the last line gets one if it has none."""
    number = 1
    for lines in _whole_lines(blocks):
        block = _decode(lines.removeprefix(BOM) if number == 1 else lines, number)
        yield block
        number += block.text.count("\n")


@contextmanager
def open_bytes(path: str | Path) -> Iterator[Any]:
    """Open a file or standard input (which stays open) for buffered reading.

    Raises:
        DataError: It is absent, a folder, or may not be read.
    """
    if str(path) == STANDARD_STREAM:
        yield sys.stdin.buffer
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise DataError("there is no such file: check the path", file=path) from None
    except IsADirectoryError:
        raise DataError("is a folder: name a file in it", file=path) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be opened ({error})", file=path) from error
    with file:
        yield file


def copy_stream(path: str | Path) -> IO[bytes]:
    """Copy what a stream brings to an unnamed temporary file, which can be read at any place."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's
    with open_bytes(path) as file:
        shutil.copyfileobj(file, copy, BLOCK_BYTES)
    return copy


@contextmanager
def open_output(path: str | Path, compression: Compression | None) -> Iterator[Any]:
    """Open a table for writing bytes, to appear under its name only once the block has ended well.

    Standard output and devices are written as they are.

    Raises:
        TwilError: The folder is absent.
        DataError: The path is a folder, or may not be written.
    """
    with ExitStack() as stack:
        if str(path) == STANDARD_STREAM:
            file: Any = sys.stdout.buffer
            stack.callback(file.flush)
        else:
            if Path(path).is_dir():
                raise DataError("is a folder: name a file in it", file=path)
            # Renaming onto a device or a pipe would replace it by a file.
            device = is_device(path)
            target = Path(path) if device else stack.enter_context(atomic_file(path))
            try:
                # What a descriptor leads to may have been begun by others.
                file = stack.enter_context(target.open("ab" if device else "wb"))
            except (OSError, ValueError) as error:
                raise DataError(f"cannot be written ({error})", file=path) from error
        yield stack.enter_context(_compressed(file, compression)) if compression else file


def is_stream(path: str | Path) -> bool:
    """Tell whether a path is a standard stream, a pipe or a device, which can be gone through only once."""
    return str(path) == STANDARD_STREAM or is_device(path)


class _Borrowed:
    """A file that is closed by its owner only: a standard stream outlives what compresses into it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        """Leave the file open."""


@contextmanager
def _compressed(file: Any, compression: Compression) -> Iterator[Any]:
    import pyarrow as pa  # takes long to import, and most tables are not compressed

    stream = pa.CompressedOutputStream(pa.PythonFile(_Borrowed(file), "w"), compression)
    try:
        yield stream
    finally:
        stream.close()


def _read_head(blocks: Iterator[bytes]) -> bytes:
    parts = []
    for block in blocks:
        parts.append(block)
        if b"\n" in block:
            break
    return b"".join(parts)


def _check_text(head: bytes, path: str | Path) -> None:
    if not head:
        raise DataError("is empty: a table has a header line or rows", file=path)
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            raise DataError(f"is not text but {name}", file=path)
    first = head.partition(b"\n")[0]
    if b"\0" in first or head.count(0) > _NUL_SHARE * len(head):
        raise DataError("is not text in UTF-8: it holds NUL bytes (UTF-16, or a machine's format)", file=path)


def _whole_lines(blocks: ByteBlocks) -> Iterator[bytes]:
    rest: list[bytes] = []  # of a line whose end has not come yet
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if not end:
            rest.append(block)
            continue
        yield b"".join((*rest, block[:end]))
        rest = [block[end:]]
    if last := b"".join(rest):
        yield last + b"\n"


def _decode(lines: bytes, number: int) -> TextBlock:
    try:
        return TextBlock(number, lines.decode(), clean=True)
    except UnicodeDecodeError:
        return TextBlock(number, lines.decode(errors="surrogateescape"), clean=False)
