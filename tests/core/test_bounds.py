"""Nothing that is read, set or met makes memory, time or threads grow without bound."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bundles import write_bundle
from commands import Run, fails
from tokenizers import Tokenizer, models, pre_tokenizers

from twil.bundle.bundle import open_bundle
from twil.bundle.session import Session
from twil.cli.faults import explained
from twil.cli.streams import Unfailing
from twil.config.pretraining import pretrain_config
from twil.config.reading import Reading
from twil.config.search import search_plan
from twil.config.training import finetune_config
from twil.core.errors import ConfigError, DataError, ModelError, TwilError
from twil.core.installation import install_command
from twil.core.machine import available_cpus
from twil.data.tables.table_sets import TableSet
from twil.data.tables.tables import TableReader
from twil.inference.predictor import Predictor
from twil.text.tokenizer import check_tokens, cut_texts, encode, frame, load_tokenizer, set_max_length
from twil.text.vocabulary import train_vocabulary

MIB = 1 << 20
TOO_LONG = "longer than 1 MiB, the most that is read of a row (--max-row-mb)"
ONE = Reading(max_row_mb=1)


def packed(path: Path, parts: Iterable[bytes]) -> Path:
    """Write what compresses to next to nothing."""
    with pa.OSFile(str(path), "wb") as file, pa.CompressedOutputStream(file, "zstd") as stream:
        for part in parts:
            stream.write(part)
    return path


# --- rows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "begin", "end"),
    [
        ("t.txt", "", ""),
        ("t.tsv", "ID\tTEXT\n", ""),
        ("t.csv", "ID,TEXT\n", ""),
        ("q.csv", "ID,TEXT\n", ""),
        ("t.jsonl", "", ""),
    ],
)
def test_a_row_that_is_too_long_is_a_bad_one_and_its_neighbours_are_read(
    tmp_path: Path, name: str, begin: str, end: str
) -> None:
    def row(text: str) -> str:
        forms = {"t.txt": "{}", "t.tsv": "1\t{}", "t.csv": "1,{}", "q.csv": '"1","{}"'}
        return forms[name].format(text) if name in forms else json.dumps({"TEXT": text})

    room = MIB - len(row("")) - 1
    texts = ["hola", "x" * room, "y" * (3 * MIB), "adiós", "z" * (room + 1)]
    path = tmp_path / name
    path.write_text(begin + "".join(f"{row(text)}\n" for text in texts) + end, encoding="utf-8")
    table = TableReader(path, ["TEXT"], reading=ONE, on_error="mark")
    rows = [text for run_ in table for text in run_.columns["TEXT"]]
    assert rows == [*texts[:2], "", "adiós", ""]
    first = 1 + bool(begin)
    assert table.first_errors == [f"line {first + 2}: {TOO_LONG}", f"line {first + 4}: {TOO_LONG}"]
    table = TableReader(path, ["TEXT"], reading=Reading(max_row_mb=4))
    assert [text for run_ in table for text in run_.columns["TEXT"]] == texts
    with pytest.raises(DataError, match=rf"{name}, line {first + 2}: longer than 1 MiB"):
        list(TableReader(path, ["TEXT"], reading=ONE))


def test_each_bad_row_of_a_csv_is_told_its_own_fault(tmp_path: Path) -> None:
    long = b"x" * (2 * MIB)
    for name, rows in (
        ("a.csv", [b"1,\xff", b"2," + long, b"3,ya", b"4,\xff"]),
        ("b.csv", [b'1,"' + long + b'"', b"2,\xff", b"3,ya", b"4," + long]),
    ):
        (tmp_path / name).write_bytes(b"ID,TEXT\n" + b"\n".join(rows) + b"\n")
        table = TableReader(tmp_path / name, ["TEXT"], reading=ONE, on_error="skip")
        assert [text for run_ in table for text in run_.columns["TEXT"]] == ["ya"]
        said = [error.partition(": ")[2] for error in table.first_errors]
        wrong = [TOO_LONG if long in row else "not UTF-8" for row in rows if row != b"3,ya"]
        assert said == wrong
    # The second of an even number of quotes may open a cell.
    (tmp_path / "c.csv").write_bytes(b'ID,TEXT\n1,5" x,"' + long + b'\n2,hola\n3,x"\n4,y\n')
    with pytest.raises(DataError, match="line 2: longer than 1 MiB"):
        list(TableReader(tmp_path / "c.csv", ["TEXT"], reading=ONE, on_error="skip"))


def test_the_first_row_of_an_array_may_be_large(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps([{"TEXT": "x" * (2 * MIB)}, {"TEXT": "ya"}]))
    assert [len(text) for run_ in TableReader(tmp_path / "t.json") for text in run_.columns["TEXT"]] == [
        2 * MIB,
        2,
    ]
    with pytest.raises(DataError, match="--max-row-mb"):
        TableReader(tmp_path / "t.json", reading=ONE)


def test_where_a_row_that_is_too_long_cannot_be_passed_the_table_is_refused(tmp_path: Path) -> None:
    long = "x" * (2 * MIB)
    for name, content, said in (
        ("first.tsv", f"ID\t{long}\n", "line 1: longer than 1 MiB"),
        ("open.csv", f'ID,TEXT\n1,"{long}\nhola"\n2,adiós\n', "line 2: longer than 1 MiB"),
        ("lines.csv", 'ID,TEXT\n1,"' + "x\n" * MIB + '"\n', "line 2: a quote opens a cell here and is not"),
        (
            "rows.json",
            json.dumps([{"TEXT": "hola"}, {"TEXT": long}]),
            "holds a row that is longer than 1 MiB",
        ),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=said):
            list(TableReader(tmp_path / name, ["TEXT"], reading=ONE, on_error="skip"))
    pq.write_table(pa.table({"TEXT": ["hola", long, None]}), tmp_path / "t.parquet")
    table = TableReader(tmp_path / "t.parquet", ["TEXT"], reading=ONE, on_error="mark")
    assert [text for run_ in table for text in run_.columns["TEXT"]] == ["hola", "", ""]
    assert table.first_errors == [f"row 2: {TOO_LONG}"]


MEASURE = """
import resource, sys
from twil.config.reading import Reading
from twil.data.tables.table_sets import TableSet
from twil.core.errors import DataError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

def read(path):
    tables = TableSet([path], [None], on_error="mark", reading=Reading(max_row_mb=2))
    return sum(len(window.rows.numbers) for window in tables.windows(4096)), tables.skipped

small, *large = sys.argv[1:]
read(small)
before = peak()
for path in large:
    try:
        print(path.rpartition("/")[2], *read(path), peak() - before)
    except DataError:
        print(path.rpartition("/")[2], "refused", 0, peak() - before)
"""


def test_memory_follows_the_window_and_not_the_table(tmp_path: Path) -> None:
    text, many = b"a" * MIB, range(160)
    pq.write_table(pa.table({"TEXT": ["a " * (MIB // 2)] * len(many)}), tmp_path / "rows.parquet")
    files = [
        packed(tmp_path / "small.tsv.zst", [b"TEXT\nhola\n"]),
        tmp_path / "rows.parquet",
        packed(tmp_path / "rows.tsv.zst", [b"TEXT\n", *(text + b"\n" for _ in many)]),
        packed(tmp_path / "rows.jsonl.zst", (b'{"TEXT":"' + text + b'"}\n' for _ in many)),
        packed(tmp_path / "rows.json.zst", [b"[", *(b'{"TEXT":"' + text + b'"},' for _ in many), b"{}]"]),
        packed(tmp_path / "row.tsv.zst", [b"TEXT\nhola\n", *(text for _ in many), b"\nadi\xc3\xb3s\n"]),
        packed(tmp_path / "row.csv.zst", [b"ID,TEXT\n1,", *(text for _ in many), b"\n2,hola\n"]),
        packed(tmp_path / "cell.csv.zst", [b'ID,TEXT\n1,"', *(text + b"\n" for _ in many), b'"\n']),
        packed(tmp_path / "line.txt.zst", (text for _ in many)),
    ]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, files)], capture_output=True, text=True, check=True
    )
    found = [line.split() for line in done.stdout.splitlines()]
    assert [entry[:3] for entry in found] == [
        ["rows.parquet", "160", "0"],
        ["rows.tsv.zst", "160", "0"],
        ["rows.jsonl.zst", "160", "0"],
        ["rows.json.zst", "161", "1"],
        ["row.tsv.zst", "3", "1"],
        ["row.csv.zst", "2", "1"],
        ["cell.csv.zst", "refused", "0"],
        ["line.txt.zst", "refused", "0"],
    ]
    assert max(int(entry[3]) for entry in found) < 120, done.stdout  # MiB, of 160 in every file


def test_of_a_million_columns_a_message_names_a_few(tmp_path: Path) -> None:
    names = ["TEXT", *(f"columna_{number}" for number in range(1_000_000))]
    (tmp_path / "t.tsv").write_text("\t".join(names) + "\n" + "\t" * 1_000_000 + "\n", encoding="utf-8")
    (rows,) = TableReader(tmp_path / "t.tsv", ["TEXT"])
    assert rows.columns == {"TEXT": [""]}
    with pytest.raises(DataError, match="no column 'CLASS'") as error:
        TableReader(tmp_path / "t.tsv", ["CLASS"])
    assert len(str(error.value)) < 1_000
    assert "(1,000,001 in all)" in str(error.value)


def test_windows_of_long_rows_have_fewer_and_the_same_whatever_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twil.data.tables.table_sets._WINDOW_CHARACTERS", 100)
    texts = [str(row % 7) * (60 if row % 10 == 0 else 5) for row in range(100)]
    (tmp_path / "t.tsv").write_text("TEXT\n" + "\n".join(texts) + "\n", encoding="utf-8")
    tables = TableSet([tmp_path / "t.tsv"], ["TEXT"])
    windows = list(tables.windows(16))
    assert [text for window in windows for text in window.rows.columns["TEXT"]] == texts
    sizes = [len(window.rows.numbers) for window in windows]
    assert max(sizes) < 16
    begins = np.cumsum([0, *sizes]).tolist()
    for window in tables.windows(16, range(30, 60)):
        assert window.rows.numbers[0] - 2 in begins
        assert window.rows in [other.rows for other in windows]


# --- texts ---------------------------------------------------------------------------------------------


def letters(longest: int | None) -> Tokenizer:
    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[MASK]", "[CLS]", "[SEP]"])}
    vocabulary |= {letter: 5 + index for index, letter in enumerate("abcdefgh")}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    frame(tokenizer, longest or 16)
    if longest is None:
        tokenizer.no_truncation()
    return tokenizer


def test_of_a_long_text_no_more_is_read_than_a_row_can_hold() -> None:
    tokenizer = letters(16)
    long = "abcd" * (1 << 18)
    row = encode(tokenizer, [long, "a" + " " * 20_000, "abc"])
    assert row.input_ids[0] == encode(tokenizer, [long[:64]]).input_ids[0]
    assert row.truncated.tolist() == [True, True, False]  # of the second nothing but blanks
    pair = encode(tokenizer, [("ab", long), (long, long)])
    assert pair.truncated.tolist() == [True, True]
    assert [len(ids) for ids in pair.input_ids] == [16, 16]
    assert [len(text) for text in cut_texts(tokenizer, [long])[0]] == [1 << 14]
    assert [len(text) for text in cut_texts(letters(512), [long])[0]] == [1 << 15]
    assert [len(text) for text in cut_texts(letters(None), [2 * long])[0]] == [1 << 20]


def test_of_a_long_text_that_is_cut_at_its_beginning_the_end_is_read() -> None:
    tokenizer = letters(16)
    tokenizer.enable_truncation(16, direction="left")
    (ids,) = encode(tokenizer, ["a" * (1 << 20) + "bcd"]).input_ids
    assert [tokenizer.id_to_token(id_) for id_ in ids[-4:]] == ["b", "c", "d", "[SEP]"]
    set_max_length(tokenizer, 20)
    assert len(encode(tokenizer, ["a" * (1 << 20)]).input_ids[0]) == 20


def test_a_token_at_which_the_library_would_crash_is_refused(tmp_path: Path) -> None:
    tokenizer = json.loads(letters(16).to_str())
    tokenizer["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["[PAD]", 0], ["b" * 300_000, -1]]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(ModelError, match="a token of more than 10,000 bytes"):
        load_tokenizer(tmp_path / "tokenizer.json")
    # Nor one that the library cannot use.
    tokenizer = json.loads(letters(16).to_str())
    tokenizer["model"] = {"type": "WordPiece", "unk_token": "[NONE]", "vocab": {"[PAD]": 0}}
    tokenizer["model"] |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    (tmp_path / "unknown.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(ModelError, match=r"unknown\.json cannot cut a text"):
        load_tokenizer(tmp_path / "unknown.json")
    whole = json.loads(letters(16).to_str())
    whole["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "A" * 40_000}
    check_tokens(json.dumps(whole).encode(), "tokenizer.json")  # as long as those of XLM-R


def test_a_vocabulary_is_learned_beside_a_word_of_megabytes() -> None:
    words = [f"hola {'abcdefgh'[number % 8] * (1 + number % 5)} chau" for number in range(400)]
    trained = train_vocabulary([*words, "x" * (4 * MIB)], size=40, sample=1000)
    assert (trained.tokens, trained.rows_used) == (40, 401)


# --- settings ------------------------------------------------------------------------------------------

HUGE = ("10" + "0" * 400, str(1 << 62), "-1")


@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize(
    "name",
    [
        *("train.epochs", "train.batch_tokens", "train.accumulation", "train.patience", "train.keep"),
        *("data.limit", "model.max_length", "train.checkpoint_steps", "train.evaluate_steps"),
    ],
)
def test_settings_of_a_fine_tuning_run_have_ranges(name: str, value: str) -> None:
    options = {"data": {"train": Path("t.tsv")}, "model": {"folder": Path("m")}}
    with pytest.raises(ConfigError, match=name):
        finetune_config(None, options, [f"{name}={value}"])


@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize(
    "name",
    ["hidden_size", "n_layers", "n_heads", "head_size", "embedding_size", "max_positions", "memory.n_keys"],
)
def test_shapes_have_ranges(name: str, value: str) -> None:
    given = {
        "data": {"corpus": Path("c")},
        "model": {"encoder": {"memory": {"layers": [0]}} if "." in name else {}},
    }
    config = pretrain_config(given, {}, [f"model.encoder.{name}={value}"])
    with pytest.raises(ConfigError, match=name):
        config.model.shape(vocab_size=100, rop=True)


def test_a_search_has_no_more_trials_than_can_be_run() -> None:
    options = {"data": {"train": Path("t.tsv"), "dev": Path("d.tsv")}, "model": {"folder": Path("m")}}
    values = ",".join(f"{number}e-6" for number in range(1, 60))
    settings = [f"lr={values}", f"train.warmup={values}", f"classifier.dropout={values}"]
    with pytest.raises(ConfigError, match="205,379 combinations: say how many"):
        search_plan(None, options, settings)
    assert search_plan(None, options, settings, {"trials": 5}).trials == 5
    with pytest.raises(ConfigError, match="trials"):
        search_plan(None, options, settings, {"trials": 10**9})


@pytest.mark.parametrize("content", ["a = " + "[" * 5_000, "a = " + "1" * 5_000])
def test_a_settings_file_that_python_cannot_read_is_refused_in_one_line(
    tmp_path: Path, run: Run, content: str
) -> None:
    (tmp_path / "c.toml").write_text(content, encoding="utf-8")
    result = run("finetune", "t.tsv", "--config", tmp_path / "c.toml", "-o", tmp_path / "m")
    fails(result, "c.toml is no TOML file")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("vocab", "t.tsv", "-o", "v.json", "--size", 10**12), "more than any model has"),
        (
            ("vocab", "t.tsv", "-o", "v.json", "--max-length", 10**20),
            "no row has 100,000,000,000,000,000,000",
        ),
        (("data", "t.tsv", "--tokenizer", "tokenizer.json", "--max-length", 10**20), "no row has"),
        (
            ("corpus", "t.tsv", "--tokenizer", "tokenizer.json", "--max-length", 10**20, "-o", "c"),
            "no row has",
        ),
        (("compare", "t.tsv", "bundle", "bundle", "--resamples", 10**11), "draw 10,000,000 or fewer"),
    ],
)
def test_options_have_ranges(
    tmp_path: Path, run: Run, tokenizer_file: Path, arguments: tuple[Any, ...], said: str
) -> None:
    write_bundle(tmp_path / "bundle")
    (tmp_path / "t.tsv").write_text("TEXT\tCLASS\nhola\tPOS\nno\tNEG\n", encoding="utf-8")
    shutil.copy(tokenizer_file, tmp_path / "tokenizer.json")
    with contextlib.chdir(tmp_path):
        fails(run(*arguments), said)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "bundle.json"])
def test_a_pipe_in_the_place_of_a_file_of_a_bundle_is_not_waited_for(tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ModelError, match=r"lacks its file|is no bundle"):
        Predictor(folder)


def test_rows_are_bounded_by_a_number_that_is_one(tmp_path: Path) -> None:
    for given in (0, -1, 1025, 10**400):
        with pytest.raises(ConfigError, match="from 1 to 1,024 MiB"):
            Reading(max_row_mb=given)


# --- standard streams ----------------------------------------------------------------------------------


def shell(arguments: str, redirected: str, folder: Path) -> tuple[int, str]:
    command = f"exec {shlex.quote(sys.executable)} -m twil {arguments} {redirected}"
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("redirected", [">&-", "<&- >&- 2>&-", "2>/dev/full >/dev/full"])
def test_what_goes_to_a_file_needs_no_standard_stream(tmp_path: Path, redirected: str) -> None:
    write_bundle(tmp_path / "bundle")
    (tmp_path / "t.tsv").write_text("TEXT\nhola\n", encoding="utf-8")
    code, said = shell("predict t.tsv --model bundle -o out.tsv", redirected, tmp_path)
    assert (code, "Traceback" in said) == (0, False)
    assert (tmp_path / "out.tsv").read_text(encoding="utf-8").startswith("label\tNEG\tNEU\tPOS\n")


@pytest.mark.parametrize(
    ("arguments", "redirected", "said"),
    [
        ("predict t.tsv --model bundle --quiet", ">&-", "standard output is closed"),
        ("predict t.tsv --model bundle --quiet", ">/dev/full", "No space left"),
        ("predict - --model bundle --quiet", "<&-", "-: is empty"),
        ("--help", ">/dev/full", "No space left"),
        ("data t.tsv", ">&-", "standard output is closed"),
    ],
)
def test_results_that_cannot_be_written_end_in_one_line(
    tmp_path: Path, arguments: str, redirected: str, said: str
) -> None:
    write_bundle(tmp_path / "bundle")
    (tmp_path / "t.tsv").write_text("TEXT\nhola\n", encoding="utf-8")
    code, told = shell(arguments, redirected, tmp_path)
    assert code == 1
    assert told.startswith("twil: error: ")
    assert said in told
    assert told.count("\n") == 1


def test_what_a_full_pipe_does_not_take_is_dropped() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with Unfailing(writing, "wb") as stream:
        assert stream.write(b"x" * (1 << 22)) == 1 << 22
    os.close(reading)


def test_a_signal_may_come_while_a_line_is_written(tmp_path: Path) -> None:
    program = (
        "import signal, sys; from twil.cli.streams import open_streams; open_streams(); told = []\n"
        "def tell(*_): told.append(sys.stderr.write('heard\\n'))\n"
        "signal.signal(signal.SIGALRM, tell); signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)\n"
        "while len(told) < 200: sys.stderr.write('line\\n')\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
    )
    with (tmp_path / "said").open("w") as said:
        done = subprocess.run([sys.executable, "-c", program], stderr=said, check=False)
    assert done.returncode == 0
    assert set((tmp_path / "said").read_text().split("\n")) == {"line", "heard", ""}


# --- what fails beneath --------------------------------------------------------------------------------


def failing(module: str) -> BaseException:
    kind = type("SomeError", (Exception,), {"__module__": module})
    return kind("header too large\nmore")  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "too little memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: …"), "too little memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "too little memory"),
        (RuntimeError("can't start new thread"), "too little memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "too little memory"),
        (OSError(12, "Cannot allocate memory"), "too little memory"),
        (OSError(28, "No space left on device"), "No space left"),
        (OSError(9, "Bad file descriptor"), "standard output is closed"),
        (OSError(9, "Bad file descriptor", "x"), "Bad file descriptor: 'x'"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (OverflowError("Python int too large to convert to C long"), "out of range"),
        (failing("safetensors_rust"), "header too large"),
        (failing("google.protobuf.message"), "header too large"),
        (ModuleNotFoundError("no", name="onnxruntime"), install_command("cpu")),
        (TwilError("so it is"), "so it is"),
    ],
)
def test_what_the_system_and_libraries_raise_is_told_in_one_line(error: BaseException, said: str) -> None:
    told = explained(error)
    assert told is not None
    assert said in told
    assert "\n" not in told


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), ModuleNotFoundError("no", name="nix")])
def test_what_must_be_an_error_in_twil_is_not_explained_away(error: BaseException) -> None:
    assert explained(error) is None


def test_no_more_threads_are_taken_than_the_process_may_use(tmp_path: Path) -> None:
    session = Session(open_bundle(write_bundle(tmp_path / "bundle")), threads=100_000)
    assert session.threads == available_cpus()
