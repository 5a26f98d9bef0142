"""From tables of pairs and single texts to a corpus: cleaned, encoded once, and a part held out.

The texts are gone through once and never held. What the rules about ids need waits on disk beside the output:
some numbers of each row, and its tokens until it is known where they go.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from tokenizers import Tokenizer

from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError, DataError
from twil.core.machine import peak_memory
from twil.core.pace import Paced
from twil.core.storage import atomic_folder, reserved_folder, sha256, write_json
from twil.core.version import __version__
from twil.data.corpus.cleaning import find_fault
from twil.data.corpus.corpus import FILES, FORMAT, KINDS, MANIFEST_FILE, PARTS, TOKENIZER_FILE, part_file
from twil.data.corpus.disk_array import RUN_ROWS
from twil.data.corpus.grouping import HeldOut, RowKeys, hold_out, mark_repeats, row_keys
from twil.data.corpus.pairs import PairColumns, PairReader, PairRows
from twil.data.corpus.row_spool import EncodedRows, Fate, RowSpool, SpoolReader, encoded_rows
from twil.data.corpus.token_store import TokenType, TokenWriter, token_type
from twil.data.tables.streams import share_read
from twil.data.tables.tables import OnError
from twil.text.special import find_special
from twil.text.tokenizer import (
    Encodings,
    encode_batch,
    load_tokenizer,
    max_length,
    save_tokenizer,
    set_max_length,
)

RULES = {
    "bad": "could not be read",
    "empty": "a text is empty",
    "only_url_user": "nothing but addresses and mentions",
    "short": "no text of more than two words",
    "repeated": "ids seen before",
    "duplicate": "texts seen before, but for links, mentions, punctuation, blanks and case",
}
"""Why rows are left out, in the order in which it is asked."""

DEV_SHARE = 0.01

_FATES = {"empty": Fate.EMPTY, "repeated": Fate.REPEATED, "duplicate": Fate.DUPLICATE}
_AHEAD = 2  # runs of rows that wait for the tokenizer while others are read and stored
_PROGRESS_SECONDS = 0.2
_SHOWN_ERRORS = 5
_LONGEST_ROW = 2**31 - 1  # lengths are stored in four bytes


@dataclass(frozen=True)
class CorpusOptions:
    """How a corpus is made.

    Attributes:
        columns: Which columns of every table to read.
        reading: How every table is read; whether it has a header is found where it is not told.
        on_error: What a bad row leads to: ``fail`` or ``skip``.
        max_length: The longest row in tokens; the tokenizer's when left out.
        drop_duplicates: Leave out rows whose texts an earlier row has, but for links, mentions, punctuation,
            blanks and case.
        dev: Share of the rows to hold out; 0.01 when left out, 0 where there are files to hold out.
        seed: Of the draw of that share; 0 when left out.
    """

    columns: PairColumns = field(default_factory=PairColumns)
    reading: Reading = AS_FOUND
    on_error: OnError = "fail"
    max_length: int | None = None
    drop_duplicates: bool = False
    dev: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse a share that leaves nothing to learn from, and a length that no row can have."""
        if self.dev is not None and not 0 <= self.dev < 1:
            raise ConfigError(f"a share of {self.dev:g} cannot be held out: choose one from 0 to below 1")
        if self.max_length is not None and self.max_length > _LONGEST_ROW:
            raise ConfigError(f"no row has {self.max_length} tokens: choose at most {_LONGEST_ROW}")


@dataclass(frozen=True)
class CorpusProgress(Paced):
    """How far the work is.

    Attributes:
        doing: What is being done.
        rows: Rows read so far.
        seconds: Since the start.
        share: Of the files that has been read, where that is being done and can be told.
    """

    doing: str
    rows: int
    seconds: float
    share: float | None = None


@dataclass(frozen=True)
class Summary:
    """The corpus is complete and in its place.

    Attributes:
        path: Its folder.
        info: What its `corpus.json` says.
        first_errors: What was wrong with the first bad rows.
        seconds: Since the start.
        peak_memory: The process's peak resident memory in bytes.
    """

    path: Path
    info: dict[str, Any]
    first_errors: tuple[str, ...]
    seconds: float
    peak_memory: int

    @property
    def rows(self) -> int:
        """Count the rows read."""
        return sum(counts["read"] for counts in self.info["rules"].values())

    @property
    def rows_per_second(self) -> float:
        """The speed from start to finish."""
        return self.rows / self.seconds


Event = CorpusProgress | Summary


def build_corpus(
    files: Sequence[str | Path],
    target: str | Path,
    tokenizer: str | Path | Tokenizer | Callable[[], Tokenizer],
    options: CorpusOptions = CorpusOptions(),
    *,
    dev_files: Sequence[str | Path] = (),
    overwrite: bool = False,
) -> Generator[Event, None, None]:
    """Clean, encode and store tables of pairs and single texts; tell on the way how far it is.

    The folder appears under its name once it is complete; nothing is left behind where an error or an
    interrupt ends the work, or the iteration is given up. The same input gives the same bytes.

    Args:
        files: Tables of pairs or of single texts, in any mix.
        target: The folder to write.
        tokenizer: The `tokenizer.json`, a tokenizer that is loaded already, or what loads it.
        options: How it is made.
        dev_files: Tables that are held out as they are. They are read first: a row that repeats one of
            theirs is left out of what is learned from.
        overwrite: Replace the corpus that is there.

    Yields:
        `CorpusProgress` a few times a second, and last `Summary`.

    Raises:
        ConfigError: Options do not fit one another.
        DataError: A file cannot be read as asked, is given twice, or no row is left to learn from.
        ModelError: The tokenizer is absent or of another kind.
        TwilError: The target is taken, or another process writes it.
    """
    start = perf_counter()
    if dev_files and options.dev:
        raise ConfigError("either a share is held out (--dev) or files are (--dev-files): choose one")
    share = 0.0 if dev_files else DEV_SHARE if options.dev is None else options.dev
    if options.seed is not None and not share:
        raise ConfigError("--seed would have no effect: only where a share is drawn to be held out (--dev)")
    seed = options.seed or 0
    with ExitStack() as stack:
        stack.enter_context(reserved_folder(target, overwrite=overwrite, own=FILES))
        encoder = _open_tokenizer(tokenizer, options.max_length)
        sources = _open_sources(files, dev_files, options)
        folder = stack.enter_context(atomic_folder(target, overwrite=overwrite, own=FILES))
        scratch = stack.enter_context(TemporaryDirectory(prefix="spool-", dir=folder))
        spool = stack.enter_context(RowSpool(Path(scratch), token_type(encoder.get_vocab_size())))
        build = _Build(spool, encoder, sources, drop_duplicates=options.drop_duplicates)
        yield from build.read(start)
        yield CorpusProgress("finding repeats and conversations", build.rows, perf_counter() - start)
        drawn = build.group(share, seed, Path(scratch))
        yield CorpusProgress("writing", build.rows, perf_counter() - start)
        parts = build.write(folder)
        rules = build.rules()
        if "train" not in parts:
            raise DataError(f"no row is left to learn from: {_describe(rules)}")
        save_tokenizer(encoder, folder / TOKENIZER_FILE)
        info = {
            "format": FORMAT,
            "twil": __version__,
            "tokenizer_sha256": sha256(folder / TOKENIZER_FILE),
            "max_length": max_length(encoder),
            "files": [source.as_dict() for source in sources],
            "rules": rules,
            "drop_duplicates": options.drop_duplicates,
            "dev": {"share": share, "seed": seed} | (asdict(drawn) if drawn else {}),
            "parts": parts,
        }
        write_json(folder / MANIFEST_FILE, info)
    errors = [f"{source.path}, {error}" for source in sources for error in source.reader.first_errors]
    yield Summary(Path(target), info, tuple(errors[:_SHOWN_ERRORS]), perf_counter() - start, peak_memory())


@dataclass
class _Source:
    """One of the files, and how many of its rows were read."""

    path: Path
    reader: PairReader
    dev: bool
    rows: int = 0

    @property
    def kind(self) -> str:
        return "pairs" if self.reader.pairs else "texts"

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.path.name,
            "part": "dev" if self.dev else "train",
            "kind": self.kind,
            "rows": self.rows,
            "bad": self.reader.skipped,
        }


class _Build:
    """The rows of all files on their way into a corpus.

    Args:
        spool: Where rows wait, all pairs before all single texts.
        tokenizer: With its truncation set.
        sources: In the order in which they are read.
        drop_duplicates: Whether near-exact duplicates are left out.

    Attributes:
        rows: Rows read so far.
    """

    def __init__(
        self, spool: RowSpool, tokenizer: Tokenizer, sources: Sequence[_Source], *, drop_duplicates: bool
    ) -> None:
        self.rows = 0
        self._spool = spool
        self._tokenizer = tokenizer
        self._special = find_special(tokenizer, source="the tokenizer")
        self._sources = sources
        self._drop_duplicates = drop_duplicates
        self._counts = {kind: Counter[str]() for kind in KINDS}
        self._spooled = Counter[str]()

    def read(self, start: float) -> Iterator[CorpusProgress]:
        """Clean, encode and spool all rows, the tokenizer at work on some while others are read."""
        last = start
        waiting: deque[tuple[_Source, RowKeys, Future[Encodings]]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="encode") as executor:
            try:
                for source, rows in self._clean_rows():
                    encoding = executor.submit(encode_batch, self._tokenizer, _texts(rows))
                    waiting.append((source, row_keys(rows, duplicates=self._drop_duplicates), encoding))
                    if len(waiting) > _AHEAD:
                        self._store(*waiting.popleft())
                    if perf_counter() - last >= _PROGRESS_SECONDS:
                        last = perf_counter()
                        share = share_read([each.reader.file for each in self._sources])
                        yield CorpusProgress("reading and encoding", self.rows, last - start, share)
                while waiting:
                    self._store(*waiting.popleft())
            finally:
                executor.shutdown(cancel_futures=True)

    def group(self, share: float, seed: int, scratch: Path) -> HeldOut | None:
        """Mark the rows that repeat others, and hold out a share; None where none is held out."""
        if not len(self._spool):
            return None
        fates = self._spool.fates()
        mark_repeats(self._spool.repeats, fates, Fate.REPEATED, scratch)
        if self._drop_duplicates:
            mark_repeats(self._spool.duplicates, fates, Fate.DUPLICATE, scratch)
        if not share or not self._spool.any_kept():
            return None
        return hold_out(
            self._spool.links, fates, self._spool.held_out(), share=share, seed=seed, folder=scratch
        )

    def write(self, folder: Path) -> dict[str, dict[str, dict[str, int | str]]]:
        """Write the rows that are kept; return what the file of each part and kind holds."""
        parts: dict[str, dict[str, dict[str, int | str]]] = {}
        with self._spool.read() as rows:
            for kind in KINDS:
                for part, counts in self._write_kind(kind, rows, folder).items():
                    parts.setdefault(part, {})[kind] = counts
        return parts

    def rules(self) -> dict[str, dict[str, int]]:
        """Count the rows of each kind: read, left out by each rule, and kept."""
        rules = {}
        for kind, counts in self._counts.items():
            sources = [source for source in self._sources if source.kind == kind]
            counts["bad"] = sum(source.reader.skipped for source in sources)
            read = sum(source.rows for source in sources) + counts["bad"]
            if sources:
                left_out = {rule: counts[rule] for rule in RULES}
                rules[kind] = {"read": read, **left_out, "kept": read - sum(left_out.values())}
        return rules

    def _clean_rows(self) -> Iterator[tuple[_Source, PairRows]]:
        """Read the rows of all files that are worth encoding."""
        for source in self._sources:
            for rows in source.reader:
                source.rows += len(rows.numbers)
                self.rows += len(rows.numbers)
                faults = [find_fault(*texts) for texts in rows.texts()]
                if any(faults):
                    self._counts[source.kind].update(filter(None, faults))
                    rows = rows.select([index for index, fault in enumerate(faults) if not fault])
                if rows.numbers:
                    yield source, rows

    def _store(self, source: _Source, keys: RowKeys, encoding: Future[Encodings]) -> None:
        rows = encoded_rows(
            *encoding.result(),
            self._spool.token_type,
            self._special,
            pairs=source.reader.pairs,
            held_out=source.dev,
        )
        self._spool.append(rows, keys)
        self._spooled[source.kind] += len(rows.fates)

    def _write_kind(self, kind: str, spool: SpoolReader, folder: Path) -> dict[str, dict[str, int | str]]:
        with ExitStack() as stack:
            outputs = {
                part: stack.enter_context(
                    _PartWriter(
                        folder / part_file(part, kind),
                        KINDS[kind],
                        self._spool.token_type,
                        self._special.unknown,
                    )
                )
                for part in PARTS
            }
            for begin in range(0, self._spooled[kind], RUN_ROWS):
                rows = spool.take(min(RUN_ROWS, self._spooled[kind] - begin))
                for rule, fate in _FATES.items():
                    self._counts[kind][rule] += int((rows.fates == fate).sum())
                for part, output in outputs.items():
                    output.write_rows(
                        rows.select((rows.fates == Fate.KEPT) & (rows.held_out == (part == "dev")))
                    )
        return {part: output.counts() for part, output in outputs.items() if output.rows}


class _PartWriter(TokenWriter):
    """Writes the rows of one part and kind, and counts what they hold.

    Attributes:
        truncated: Rows whose end was cut off.
        unknown: Tokens that stand for what is not in the vocabulary.
    """

    def __init__(self, path: Path, columns: int, tokens: TokenType, unknown: int | None) -> None:
        super().__init__(path, columns, tokens)
        self.truncated = self.unknown = 0
        self._unknown_token = unknown

    def write_rows(self, rows: EncodedRows) -> None:
        """Append rows as one batch."""
        self.truncated += int(rows.truncated.sum())
        if self._unknown_token is not None:
            self.unknown += int((rows.tokens == self._unknown_token).sum())
        self.write(rows.tokens, rows.lengths[:, : self.columns])

    def counts(self) -> dict[str, int | str]:
        """Say what the closed file holds, and its SHA-256, which tells it from one of the same sizes."""
        return {
            "rows": self.rows,
            "tokens": self.tokens,
            "truncated": self.truncated,
            "unknown": self.unknown,
            "bytes": self.path.stat().st_size,
            "sha256": sha256(self.path),
        }


def _texts(rows: PairRows) -> list[str] | list[tuple[str, str]]:
    return rows.first if rows.second is None else list(zip(rows.first, rows.second, strict=True))


def _open_tokenizer(
    source: str | Path | Tokenizer | Callable[[], Tokenizer], length: int | None
) -> Tokenizer:
    if not isinstance(source, str | Path | Tokenizer):
        source = source()
    tokenizer = source if isinstance(source, Tokenizer) else load_tokenizer(source)
    if length is not None:
        set_max_length(tokenizer, length)
    elif max_length(tokenizer) is None:
        name = "the tokenizer" if isinstance(source, Tokenizer) else source
        raise ConfigError(
            f"{name} does not say how long a row may be: choose a length (--max-length), or name the model "
            "that reads it (--tokenizer FOLDER)"
        )
    return tokenizer


def _open_sources(
    files: Sequence[str | Path], dev_files: Sequence[str | Path], options: CorpusOptions
) -> list[_Source]:
    """Open all files before any work, in the order in which they are read.

    Pairs come first, since rows of a kind lie together on disk; among a kind what is held out comes first,
    since of repeated rows the first is kept.
    """
    if not files:
        raise DataError("there are no files to make a corpus of: name some")
    sources = []
    seen: dict[tuple[int, int], Path] = {}
    for dev, path in [*((True, Path(file)) for file in dev_files), *((False, Path(file)) for file in files)]:
        reader = PairReader(
            path,
            options.columns,
            reading=options.reading,
            on_error=options.on_error,
        )
        stat = path.stat()
        if (other := seen.setdefault((stat.st_dev, stat.st_ino), path)) is not path:
            raise DataError(f"is given twice (also as {other}): name each file once", file=path)
        sources.append(_Source(path, reader, dev))
    return sorted(sources, key=lambda source: (not source.reader.pairs, not source.dev))


def _describe(rules: dict[str, dict[str, int]]) -> str:
    """Say why rows were left out, the most frequent reason first."""
    totals = Counter[str]()
    for counts in rules.values():
        totals.update({rule: counts[rule] for rule in RULES if counts[rule]})
    read = sum(counts["read"] for counts in rules.values())
    reasons = "; ".join(f"{RULES[rule]}: {count:,}" for rule, count in totals.most_common())
    return f"{read:,} were read" + (f" ({reasons})" if reasons else "")
