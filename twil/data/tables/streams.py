"""The bytes of a table, in and out: compression, standard streams, and what is plainly not text."""

from __future__ import annotations

import codecs
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import DataError, first_line
from twil.core.storage import LFS_POINTER, atomic_file, is_device, is_lfs_pointer
from twil.data.tables.formats import STANDARD_STREAM, Compression, is_utf8

BLOCK_BYTES = 1 << 20
_HEAD_BYTES = 1 << 20  # of a file whose lines mean nothing
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
    b"\xff\xfe": "UTF-16: name its encoding (--encoding utf-16), or save it as UTF-8",
    b"\xfe\xff": "UTF-16: name its encoding (--encoding utf-16), or save it as UTF-8",
}
NOT_UTF8 = "not UTF-8"
"""What is wrong with a row whose bytes are no text."""
_NUL_SHARE = 0.01  # a text may hold a stray NUL; UTF-16 and machine formats are full of them


class InputFile:
    """A file that is read, in as many passes as it takes, or a stream, which is read in one.

    What was read of a file before and after it was written to is no table. So its size and the time of its
    last change are looked at whenever bytes are read, and must be in each pass what they were at first. A
    file that is replaced under its name is read to its end, as it was, and by no further pass.

    Args:
        path: Of the file, or ``-`` for standard input.

    Attributes:
        path: As given.
        stream: See `is_stream`.
        position: How far this pass has come in it, in bytes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.stream = is_stream(path)
        self.position = 0
        self._state: tuple[int, ...] | None = None

    @contextmanager
    def open(self) -> Iterator[Any]:
        """Open it for buffered reading; standard input stays open.

        Raises:
            DataError: It is absent, a folder, or may not be read; or, also while it is read, it has changed.
        """
        if str(self.path) == STANDARD_STREAM:
            yield sys.stdin.buffer
            return
        try:
            raw = _WatchedFile(self.path, self._note)
        except FileNotFoundError:
            raise DataError("there is no such file: check the path", file=self.path) from None
        except IsADirectoryError:
            raise DataError("is a folder: name a file in it", file=self.path) from None
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be opened ({error})", file=self.path) from error
        with io.BufferedReader(raw) as file:
            self._check(raw.fileno())
            if not self.stream and is_lfs_pointer(self.path):
                raise DataError(LFS_POINTER, file=self.path)
            yield file
            self._check(raw.fileno())  # what came last may have been read long before

    @property
    def size(self) -> int:
        """Its bytes, once it has been opened; of a stream 0."""
        return self._state[2] if self._state else 0

    def _note(self, raw: _WatchedFile) -> None:
        if not self.stream:
            self.position = raw.tell()
        self._check(raw.fileno())

    def _check(self, descriptor: int) -> None:
        if self.stream:
            return
        found = os.fstat(descriptor)
        state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        self._state = self._state or state
        if state != self._state:
            raise DataError(
                "changed while it was read: run again once nothing writes to it, or on a copy", file=self.path
            )


def share_read(files: Sequence[InputFile]) -> float | None:
    """Tell which share of the bytes of files has been read, from 0 to 1; None where one is a stream."""
    size = sum(file.size for file in files)
    if not size or any(file.stream for file in files):
        return None
    return min(1.0, sum(file.position for file in files) / size)


class ByteBlocks:
    """The decompressed bytes of a text file, block by block.

    A file can be read again and again; standard input and pipes are read once and never sought.

    Args:
        file: The file.
        compression: What its bytes are compressed with.
        reading: How it is read; of its encoding what is given is UTF-8.
        by_line: Whether its lines mean something.

    Attributes:
        head: The first bytes: at least the whole first line, or so many as are enough to know it by.
        longest: The bytes of the longest line that is read.
        stream: Whether it can be read but once.
        not_text: What is wrong with a row whose bytes are no text.
        cure: What to do about it, where the whole file is refused.
        too_long: What is wrong with a row that is longer than is read.

    Raises:
        DataError: There is no such file, it is empty, what it holds is not text in UTF-8, or its first line
            does not end where the longest that is read would.
    """

    def __init__(
        self,
        file: InputFile,
        compression: Compression | None,
        reading: Reading = AS_FOUND,
        *,
        by_line: bool = True,
    ) -> None:
        self.path = file.path
        self.not_text = NOT_UTF8 if is_utf8(reading.encoding) else f"not {reading.encoding}"
        self.cure = "name its encoding (--encoding latin-1, cp1252, …), or save it as UTF-8"
        self.longest = reading.max_row_bytes
        self.stream = file.stream
        self.too_long = reading.too_long
        self._file = file
        self._compression = compression
        self._encoding = reading.encoding
        blocks = self._open()
        self.head = _read_head(blocks, self.longest if by_line else None)
        self._rest: Iterator[bytes] | None = None
        if file.stream:
            self._rest = blocks
        else:
            blocks.close()
        _check_text(self.head, self.path)
        if by_line and len(self.head) > self.longest and b"\n" not in self.head:
            raise DataError(self.too_long, file=self.path, line=1)

    def __iter__(self) -> Iterator[bytes]:
        if not self._file.stream:
            yield from self._open()
            return
        rest, self._rest = self._rest, None
        if rest is None:
            raise DataError("a stream can be read only once: save it to a file first", file=self.path)
        yield self.head
        yield from rest

    def _open(self) -> Generator[bytes]:
        blocks = self._stored()
        if self._encoding is None or is_utf8(self._encoding):
            yield from blocks
            return
        decoder = codecs.getincrementaldecoder(self._encoding)("surrogateescape")
        try:
            for block in blocks:
                whole = decoder.decode(block).encode(errors="surrogateescape")
                yield from (whole[at : at + BLOCK_BYTES] for at in range(0, len(whole), BLOCK_BYTES))
            if text := decoder.decode(b"", final=True):
                yield text.encode(errors="surrogateescape")
        except UnicodeError as error:
            raise DataError(
                f"is not text in {self._encoding} ({error}): name another encoding (--encoding)",
                file=self.path,
            ) from None

    def _stored(self) -> Generator[bytes]:
        with self._file.open() as file:
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
        text: The lines, each with the line feed that ends it. Bytes that are no text stand as lone
            surrogates, and so does a line that is longer than is read.
        fault: What is wrong with lines that hold such; None where none does.
    """

    first: int
    text: str
    fault: str | None = None


def text_blocks(blocks: ByteBlocks) -> Iterator[TextBlock]:
    """Decode bytes once per block, cut after line feeds only; the last line gets one if it has none."""
    number = 1
    for lines, left_out in _whole_lines(blocks):
        fault = blocks.too_long if left_out else blocks.not_text
        block = _decode(lines.removeprefix(BOM) if number == 1 else lines, number, fault)
        yield block
        number += block.text.count("\n")


def plain_text(blocks: ByteBlocks) -> Iterator[str]:
    """Decode bytes wherever they are cut.

    Raises:
        DataError: They are no text.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        for block in blocks:
            if text := decoder.decode(block):  # of a part of a character nothing comes yet
                yield text
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise DataError(f"{blocks.not_text}: {blocks.cure}", file=blocks.path) from None


def copy_stream(stream: InputFile) -> IO[bytes]:
    """Copy what a stream brings to an unnamed temporary file, which can be read at any place."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's
    with stream.open() as file:
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


class _WatchedFile(io.FileIO):
    """A file that is checked after every read, before what was read is used."""

    def __init__(self, path: str | Path, note: Callable[[_WatchedFile], None]) -> None:
        super().__init__(path)
        self._note = note

    def readinto(self, buffer: Any) -> int | None:
        """Read as much as there is room for; a buffered reader of blocks calls nothing else."""
        count = super().readinto(buffer)
        self._note(self)
        return count


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


def _read_head(blocks: Iterator[bytes], longest_line: int | None) -> bytes:
    parts, length = [], 0
    for block in blocks:
        parts.append(block)
        length += len(block)
        if length >= _HEAD_BYTES if longest_line is None else b"\n" in block or length > longest_line:
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
        raise DataError(
            "is not text in UTF-8: it holds NUL bytes (UTF-16, which --encoding utf-16-le reads, or a "
            "machine's format)",
            file=path,
        )


def _whole_lines(blocks: ByteBlocks) -> Iterator[tuple[bytes, bool]]:
    """Yield runs of whole lines, and what stands for each line that is longer than is read; tell which it is.

    Such a line is longer than a block, so that its end is never in the one where it begins.
    """
    rest: list[bytes] = []  # of a line whose end has not come yet
    held = 0
    passed: _Passed | None = None
    for block in blocks:
        begin, end = block.find(b"\n") + 1, block.rfind(b"\n") + 1
        if passed or held + begin > blocks.longest:
            passed = passed or _Passed()
            for part in (*rest, block[: begin or None]):
                passed.note(part)
            rest, held = [], 0
            if not end:
                continue
            yield passed.stand_in(), True
            passed = None
        else:
            begin = 0
        if lines := b"".join((*rest, block[begin:end])) if end else b"":
            yield lines, False
        if end:
            rest, held = [], 0
        rest.append(block[end:])
        held += len(block) - end
    if held >= blocks.longest:  # with the end that it gets
        passed = _Passed()
        for part in rest:
            passed.note(part)
    if passed:
        yield passed.stand_in(), True
    elif last := b"".join(rest):
        yield last + b"\n", False


class _Passed:
    """What is known of a line that is not read."""

    def __init__(self) -> None:
        self._before = b""  # the first quote
        self._quotes = 0

    def note(self, part: bytes) -> None:
        """Go on in it."""
        if not self._quotes:
            self._before = (self._before + part.partition(b'"')[0])[-4:]
        self._quotes += part.count(b'"')

    def stand_in(self) -> bytes:
        """Give bytes that are no text in its place, and what was before its first quote.

        Of an even number of quotes there are two, of another one.
        """
        quotes = b'"' * (2 - self._quotes % 2) if self._quotes else b""
        return self._before + quotes + b"\xff\n" if quotes else b"\xff\n"


def _decode(lines: bytes, number: int, fault: str) -> TextBlock:
    try:
        return TextBlock(number, lines.decode())
    except UnicodeDecodeError:
        return TextBlock(number, lines.decode(errors="surrogateescape"), fault)
