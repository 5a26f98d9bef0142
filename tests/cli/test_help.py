"""The help: options in panels, examples that work, completion, and defaults from outside the command."""

from __future__ import annotations

import functools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import write_rows
from tuning import twil_command

from twil.cli.help import COMMAND_PANELS, EXAMPLES
from twil.cli.main import COMMANDS, make_app


@functools.cache
def group() -> Any:
    return typer.main.get_command(make_app([]))


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_a_command_are_written_as_it_reads_them(name: str) -> None:
    command = group().commands[name]
    for example in EXAMPLES[name]:
        assert len(example) < 80  # one that breaks cannot be copied
        (line,) = [part for part in re.split(r"[|<>]", example) if part.strip().startswith("twil")]
        _, called, *arguments = shlex.split(line)
        assert called == name
        command.make_parser(typer.Context(command)).parse_args(arguments)
        assert example.split("[")[0] in twil_command(name, "--help").output or len(example) > 76


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_in_a_panel_and_every_argument_is_explained(name: str) -> None:
    command = group().commands[name]
    assert any(name in names for names in COMMAND_PANELS.values())
    for parameter in command.params:
        assert parameter.help, parameter.name
        if parameter.param_type_name == "option":
            assert parameter.rich_help_panel in ("Input", "Model", "Training", "Graph", "Output", "Run")
    assert "[default:" not in twil_command(name, "--help").output


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twil", *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_of_a_command_is_asked_for_in_two_ways(tmp_path: Path) -> None:
    assert run(tmp_path, "help", "label").stdout == run(tmp_path, "label", "--help").stdout
    assert "Use a model" in run(tmp_path, "help").stdout


@pytest.mark.parametrize(
    ("typed", "word", "offered"),
    [
        ("twil pre", 1, {"predict", "pretrain"}),
        ("twil label --model ", 3, {"emotion", "sentiment", "twil-es"}),
        ("twil finetune --config irosva", 3, {"irosva19_cu", "irosva19_es", "irosva19_mx"}),
        ("twil pretrain ti", 2, {"tiny"}),
    ],
)
def test_a_shell_completes_commands_models_and_recipes(
    tmp_path: Path, typed: str, word: int, offered: set[str]
) -> None:
    variables = {"_TWIL_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(word)}
    assert set(run(tmp_path, **variables).stdout.split()) == offered


def test_defaults_come_from_the_environment_and_from_a_file_and_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "tweets.tsv", [("qué día tan bonito", "")])
    (tmp_path / "twil.toml").write_text('[predict]\nmodel = ["emotion"]\nid = "ID"\n', encoding="utf-8")
    done = twil_command("predict", "tweets.tsv")
    assert (done.exit_code, "joy" in done.stdout) == (0, True)
    assert "note: from twil.toml: --model emotion\n" in done.stderr
    monkeypatch.setenv("TWIL_PREDICT_MODEL", "sentiment")  # which is nearer than the file
    done = twil_command("predict", "tweets.tsv")
    assert "positive" in done.stdout
    assert "note: from the environment: --model sentiment\n" in done.stderr
    done = twil_command("predict", "tweets.tsv", "--model", "emotion")  # what is typed is nearest
    assert "joy" in done.stdout
    assert "--model" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[predict]\nthread = 2\n", "twil.toml: twil predict has no option --thread"),
        ("[predct]\n", "twil.toml: there is no command 'predct'"),
        ("threads = 2\n", "twil.toml: there is no command 'threads'"),
        ("[", "twil.toml is no TOML file"),
    ],
)
def test_a_file_of_defaults_that_cannot_be_meant_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "twil.toml").write_text(text, encoding="utf-8")
    done = run(tmp_path, "predict", "tweets.tsv")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert said in done.stderr
