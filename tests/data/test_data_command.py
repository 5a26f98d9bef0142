"""`twil data`: what a person reads, what a program reads, and wrong files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from bundles import make_tokenizer, write_bundle
from conftest import write_rows
from typer.testing import CliRunner, Result

from twil.cli import console
from twil.cli import data as data_command
from twil.cli.main import guard
from twil.text.tokenizer import save_tokenizer

TRAIN = [
    ("por fin es viernes", "P"),
    ("otra vez tarde el bus", "N"),
    ("otra vez tarde el bus", "P"),
    ("qué ganas de playa", "P"),
    ("", "N"),
]
DEV = [("Por fin es viernes!", "P"), ("qué ganas de playa", "P"), ("me voy ya", "P")]


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(guard(data_command.command))
    return app


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "train.tsv", TRAIN)


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "dev.tsv", DEV)


def run(app: typer.Typer, *arguments: object, **options: Any) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), **options)


def fails(result: Result, *said: str) -> None:
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("twil: error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for part in said:
        assert part in result.stderr


def cells(result: Result, name: str) -> list[str]:
    """Give the cells of the first row of a table that begins with a name."""
    return next(line for line in result.stdout.split("\n") if line.startswith(f"{name} ")).split()[1:]


def test_a_person_sees_rows_repeats_overlaps_labels_and_lengths(
    app: typer.Typer, train: Path, dev: Path
) -> None:
    result = run(app, train, dev)
    assert result.exit_code == 0, result.stderr
    assert cells(result, "rows") == ["5", "3"]
    assert cells(result, "empty")[-2:] == ["1", "0"]
    assert cells(result, "texts")[-2:] == ["1", "0"]
    assert cells(result, "P")[:6] == ["3", "60.0", "%", "3", "100.0", "%"]
    assert "█" in result.stdout
    assert "dev.tsv 3  train.tsv 5  qué ganas de playa" in result.stdout
    assert "texts with different labels: 1, in 2 rows" in result.stdout
    assert "length of texts in characters" in result.stdout
    said = result.stderr.split("\n")
    assert said[0].startswith("note: rows of dev.tsv whose text train.tsv has, too: 1 (33.3 %)")
    assert "punctuation, blanks and case 2 (first line 3, there 5)" in said[0]
    assert said[1] == "note: all rows of dev.tsv have the label 'P'"
    assert said[2].startswith("8 rows in ")
    assert run(app, train, dev, "--quiet").stderr == ""


def test_a_program_reads_json(app: typer.Typer, train: Path, dev: Path) -> None:
    value = json.loads(run(app, train, dev, "--json", "-q").stdout)
    assert [file["rows"] for file in value["files"]] == [5, 3]
    assert value["files"][0]["labels"] == {"P": 3, "N": 2}
    assert (value["overlaps"][0]["same"], value["overlaps"][0]["near"]) == (1, 2)
    assert value["contradictions"]["texts"] == 1


def test_bars_give_way_where_the_terminal_is_narrow(
    app: typer.Typer, train: Path, dev: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PIPE_WIDTH", 40)
    result = run(app, train, dev)
    assert "█" not in result.stdout
    assert cells(result, "P") == ["3", "60.0", "%", "3", "100.0", "%"]
    assert max(map(len, result.stdout.split("\n"))) <= 40


@pytest.mark.parametrize("place", ["tokenizer", "bundle"])
def test_tokens_are_those_of_a_tokenizer_or_a_model(
    app: typer.Typer, train: Path, tmp_path: Path, place: str
) -> None:
    if place == "bundle":
        option = ["--model", write_bundle(tmp_path / "bundle", max_length=16)]
    else:
        save_tokenizer(make_tokenizer(16), tmp_path / "tokenizer.json")
        option = ["--tokenizer", tmp_path / "tokenizer.json"]
    result = run(app, train, *option)
    assert result.exit_code == 0, result.stderr
    assert "length of texts in tokens" in result.stdout
    assert "over 16" in result.stdout
    shorter = json.loads(run(app, train, *option, "--max-length", 8, "--json").stdout)
    assert shorter["max_length"] == 8
    assert shorter["files"][0]["lengths"]["truncated"] == 4


def test_what_the_labels_seem_to_be_is_said(app: typer.Typer, tmp_path: Path) -> None:
    several = write_rows(tmp_path / "several.tsv", [("hola", "ira|asco"), ("adiós", "ira")])
    assert "--task multi-label counts each by itself" in run(app, several).stderr
    assert "--task" not in run(app, several, "--task", "multi-label").stderr
    bits = write_rows(tmp_path / "bits.tsv", [("hola", "1|0|0"), ("adiós", "0|0|1"), ("ya", "")])
    result = run(app, bits, "--task", "multi-label")
    assert cells(result, "2")[:2] == ["0", "0.0"]
    assert result.stderr.startswith("note: labels that no row of bits.tsv has: 2\n3 rows in ")
    rows = [("hola", "|".join("1" * 11)), ("adiós", "|".join("0" * 11))]
    many = write_rows(tmp_path / "many.tsv", rows)
    assert "--task" not in run(app, many, "--task", "multi-label").stderr
    numbers = write_rows(tmp_path / "numbers.tsv", [(f"texto {n}", f"{n / 8}") for n in range(20)])
    assert "--task regression" in run(app, numbers).stderr
    result = run(app, numbers, "--task", "regression")
    assert cells(result, "mean") == ["1.1875"]
    assert "--task" not in result.stderr


def test_what_is_wrong_with_rows_is_said_with_their_lines(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("TEXT\tCLASS\nhola\tP\nadiós\t\nuno\tdos\ttres\nya\tp\n", encoding="utf-8")
    said = run(app, path).stderr
    assert "rows of train.tsv that cannot be read: 1\n  line 4: 3 fields, expected 2\n" in said
    assert "rows of train.tsv without a label: 1 (line 3)" in said
    assert "count as different: P, p\n" in said
    padded = write_rows(tmp_path / "padded.tsv", [("hola", "P"), ("adiós", "P "), ("ya", "N")])
    assert "blanks around the label P do not count\n" in run(app, padded).stderr
    path.write_text("TEXT\tCLASS\nhola\t0.5\nadiós\talto\n", encoding="utf-8")
    assert "train.tsv, line 3: 'alto' is no number" in run(app, path, "--task", "regression").stderr


def test_labels_that_one_file_lacks_are_named(app: typer.Typer, train: Path, tmp_path: Path) -> None:
    more = write_rows(tmp_path / "more.tsv", [("a saber", "NEU"), ("qué más da", "N")])
    said = run(app, train, more).stderr
    assert "note: labels that no row of train.tsv has: NEU\n" in said
    assert "note: labels that no row of more.tsv has: P\n" in said


def test_standard_input_is_read_once(app: typer.Typer, train: Path) -> None:
    result = run(app, "-", "--json", "-q", input=train.read_bytes())
    assert result.exit_code == 0, result.stderr
    value = json.loads(result.stdout)
    assert value["files"][0]["rows"] == 5
    assert value["excerpts"] == {"-": {}}


def test_columns_without_names_are_numbered(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("hola\tP\nadiós\tN\n", encoding="utf-8")
    result = run(app, path, "--no-header", "--text", 1, "--label", 2)
    assert cells(result, "P")[:2] == ["1", "50.0"]


def test_wrong_files_and_options_are_one_line(app: typer.Typer, train: Path, tmp_path: Path) -> None:
    fails(run(app, tmp_path / "none.tsv"), "none.tsv", "no such file")
    fails(run(app, train, "--label", "CLAS"), "no column 'CLAS'", "did you mean 'CLASS'?")
    fails(run(app, train, "--text", "TEXTO"), "did you mean 'TEXT'?")
    fails(run(app, train, "--text-pair", "REPLY"), "no column 'REPLY'")
    (tmp_path / "empty.tsv").touch()
    fails(run(app, train, tmp_path / "empty.tsv"), "empty.tsv", "is empty")
    (tmp_path / "header.tsv").write_text("TEXT\tCLASS\n", encoding="utf-8")
    fails(run(app, tmp_path / "header.tsv"), "header.tsv", "no rows")
    (tmp_path / "picture.tsv").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    fails(run(app, tmp_path / "picture.tsv"), "picture.tsv", "PNG image")
    fails(run(app, tmp_path), "is a folder")
    fails(run(app, train, train), "named twice")
    fails(run(app, train, "--model", tmp_path), "is no model folder")
    fails(run(app, train, "--model", tmp_path, "--tokenizer", train), "leave --tokenizer out")
    fails(run(app, train, "--tokenizer", train), "not a tokenizer.json")
    fails(run(app, train, "--task", "ranking"), "choose one of class, multi-label, regression, stance")
    fails(run(app, train, "--task", "regression"), "train.tsv, line 2: no label is a number")
    fails(run(app, train, "--max-length", 20), "give a model or a tokenizer")
