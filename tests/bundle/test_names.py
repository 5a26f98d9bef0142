"""Models by name: what a name stands for, which one is the default, and what may be asked of it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bundles import POLARITY, write_bundle
from commands import Run, fails

from twil import shipped
from twil.bundle import catalogue, names
from twil.bundle.names import find_model
from twil.core.errors import ModelError, ModelWarning
from twil.core.task import Task
from twil.inference.embedder import Embedder
from twil.inference.predictor import Predictor

FEELINGS = Task("multi-label", ("joy", "fear"))
TWEETS = "ID\tTEXT\n1\tqué alegría de barrio\n2\totra vez sin metro\n"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of models as twil comes with."""
    folder = tmp_path_factory.mktemp("shipped")
    card = b"# sentiment\n\nversion: 1.2\n| date | 2026-11-30 |\n"
    write_bundle(folder / "sentiment", POLARITY, files={"MODEL_CARD.md": card})
    write_bundle(folder / "emotion", FEELINGS, seed=1)
    write_bundle(folder / "twil-vectors", None)
    (folder / "__pycache__").mkdir()
    return folder


@pytest.fixture(autouse=True)
def at_work(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "FOLDER", stand_in)
    monkeypatch.setenv("TWIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TWIL_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("tweets.tsv").write_text(TWEETS, encoding="utf-8")


def rows(out: str) -> list[list[str]]:
    return [line.split("\t") for line in out.splitlines()]


def test_a_name_is_a_path_then_a_model_of_twil_then_one_of_the_hub(stand_in: Path) -> None:
    for name in ("emotion", "emotion/", "./emotion"):
        assert find_model(name) == names.FoundModel(name, stand_in / "emotion", "shipped")
    assert find_model("some-one/emotion.v2").origin == "hub"
    assert find_model(stand_in / "emotion").origin == "path"
    Path("some-one/emotion.v2").mkdir(parents=True)
    assert find_model("some-one/emotion.v2").origin == "path"


def test_a_folder_of_the_same_name_is_taken_and_that_is_said(bundle_here: Path, run: Run) -> None:
    with pytest.warns(ModelWarning, match="sentiment is the folder of that name here, not the model 'sent"):
        assert find_model("sentiment").origin == "path"
    code, out, err = run("predict", "tweets.tsv", "-m", "sentiment")
    assert code == 0
    assert rows(out)[0] == ["ID", "label", "joy", "fear"]
    assert err.count("note: sentiment is the folder of that name here") == 1


@pytest.fixture
def bundle_here(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "sentiment", FEELINGS)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sentimnt", "no model is called so: did you mean 'sentiment'? with twil come emotion, sentiment"),
        ("Emotion", "did you mean 'emotion'?"),
        ("qué", "there is no bundle folder qué, and no model is called so: with twil come emotion"),
        ("cache/none", "there is no bundle folder cache/none"),  # within a folder of this machine
        ("a/b/c", "there is no bundle folder a/b/c"),
        ("../emotion", "there is no bundle folder ../emotion"),
        ("/none/emotion", "there is no bundle folder /none/emotion"),
        ("__pycache__", "there is no bundle folder __pycache__"),
        (".", ". is no bundle"),
        ("tweets.tsv", "there is no bundle folder tweets.tsv"),
    ],
)
def test_what_names_nothing_is_refused_with_those_that_there_are(
    name: str, said: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    with pytest.raises(ModelError, match=re.escape(said)):
        Predictor(name, provider="cpu")
    fails(run("predict", "tweets.tsv", "-m", name), said)


def test_nothing_need_be_named_and_what_is_taken_is_said(run: Run) -> None:
    expected = run("predict", "tweets.tsv", "-m", "sentiment")[1]
    code, out, err = run("predict", "tweets.tsv")
    assert (code, out) == (0, expected)
    assert err.startswith(
        "note: no --model: sentiment, which comes with twil (version 1.2, date 2026-11-30)\n"
    )
    assert run("predict", "tweets.tsv", "-q")[::2] == (0, "")
    assert Predictor(provider="cpu").task == POLARITY


def test_the_environment_names_another_default(
    run: Run, monkeypatch: pytest.MonkeyPatch, stand_in: Path
) -> None:
    for name in ("emotion", str(stand_in / "emotion")):
        monkeypatch.setenv("TWIL_MODEL", name)
        code, out, err = run("predict", "tweets.tsv")
        assert (code, rows(out)[0]) == (0, ["ID", "label", "joy", "fear"])
        assert err.startswith(f"note: no --model: {name}, which TWIL_MODEL names\n")
        assert Predictor(provider="cpu").task == FEELINGS
    monkeypatch.setenv("TWIL_MODEL", "emotions")
    fails(run("predict", "tweets.tsv"), "TWIL_MODEL names emotions, which is not there: did you mean 'emo")
    monkeypatch.setenv("TWIL_MODEL", "")
    assert Predictor(provider="cpu").task == POLARITY


def test_a_default_that_does_not_come_with_twil_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    said = "no model is named (--model), and the default is sentiment, which is not there"
    for command in (["predict", "tweets.tsv"], ["label", "hola"]):
        fails(run(*command), said, "with this twil comes no model")
    code, out, _ = run("models")
    assert (code, out.splitlines()[0]) == (0, "come with twil: none with this one")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["embed", "tweets.tsv", "-m", "twil-vectors", "-o", "v.npy"], "wrote v.npy"),
        (["evaluate", "sentiment", "labelled.tsv"], "sentiment on labelled.tsv"),
        (["compare", "labelled.tsv", "sentiment", "other=sentiment", "--resamples", "100"], "other"),
        (["benchmark", "sentiment", "--batch", "1", "--length", "4", "--rounds", "5"], "sentiment"),
        (["data", "tweets.tsv", "-m", "emotion"], ""),
        (["fill-mask", "sentiment", "un [MASK]"], "which fills no masks"),
        (["predict", "tweets.tsv", "-m", "twil-vectors"], "is an encoder, which gives vectors"),
        (["evaluate", "sentiment!", "labelled.tsv"], "did you mean sentiment?"),
    ],
)
def test_other_commands_know_the_names_too(run: Run, command: Sequence[str], expected: str) -> None:
    Path("labelled.tsv").write_text("TEXT\tCLASS\nqué bien\tPOS\nqué mal\tNEG\n", encoding="utf-8")
    code, out, err = run(*command)
    assert expected in out + err
    assert code == (1 if expected.startswith(("which", "is an", "did")) else 0), err


def test_an_embedder_has_no_default_and_takes_a_name() -> None:
    assert Embedder("twil-vectors", provider="cpu")(["hola"]).shape == (1, 8)


def test_texts_are_labelled_from_the_command_line(run: Run) -> None:
    texts = ["me encanta este barrio", "qué asco\tde día", ""]
    assert "is taken as a text, and a file is called so" in run("label", __file__)[2]
    code, out, err = run("label", *texts)
    assert code == 0
    assert rows(out)[0] == ["TEXT", "label", "NEG", "NEU", "POS"]
    assert [row[0] for row in rows(out)[1:]] == ["me encanta este barrio", "qué asco de día", ""]
    assert "note: no --model: sentiment" in err
    assert "cells whose tabs or line breaks became blanks: 1" in err
    expected = Predictor("sentiment", provider="cpu")(texts)
    assert [row[1] for row in rows(out)[1:]] == [prediction.label for prediction in expected]
    told = [json.loads(line) for line in run("label", *texts, "--json")[1].splitlines()]
    assert told == [
        {"text": text, "label": one.label, "probabilities": one.probabilities}
        for text, one in zip(texts, expected, strict=True)
    ]


def test_several_models_label_a_text(run: Run) -> None:
    code, out, _ = run("label", "hola", "-m", "sentiment", "-m", "how=emotion")
    assert code == 0
    columns = "TEXT sentiment_label sentiment_NEG sentiment_NEU sentiment_POS how_label how_joy how_fear"
    assert rows(out)[0] == columns.split()
    (line,) = run("label", "hola", "-m", "sentiment", "-m", "how=emotion", "--json")[1].splitlines()
    assert json.loads(line).keys() == {"text", "sentiment", "how"}
    _, _, err = run("label", "hola " * 200, "buenas", "-m", "sentiment", "-m", "uno=sentiment")
    assert "texts cut at the longest row that the model reads: 1\n" in err


@pytest.mark.parametrize(
    ("task", "answer"), [(Task("regression", ("value",)), "value"), (Task("class", ("NO", "SÍ")), "label")]
)
def test_any_task_is_labelled(run: Run, tmp_path: Path, task: Task, answer: str) -> None:
    write_bundle(tmp_path / "other", task)
    code, out, _ = run("label", "hola", "-m", "other")
    assert (code, rows(out)[0][1]) == (0, answer)
    assert answer in json.loads(run("label", "hola", "-m", "other", "--json")[1])


def test_what_cannot_be_labelled_here_is_refused(run: Run, tmp_path: Path) -> None:
    for texts in ([], ["-"]):
        fails(run("label", *texts, "-m", "sentiment"), "twil predict - a pipe")
    write_bundle(tmp_path / "pairs", Task("class", ("NO", "SÍ"), pair=True))
    fails(run("label", "hola", "-m", "pairs"), "pairs takes pairs of texts", "--text-pair")
    fails(run("label", "hola", "-m", "twil-vectors"), "is an encoder")


def on_a_terminal(*arguments: str, columns: int = 80) -> list[str]:
    """Run a command whose output is a terminal; return what is shown, line by line, without its colours."""
    ours, theirs = pty.openpty()
    program = (
        "import sys; from pathlib import Path; from twil import shipped\n"
        f"shipped.FOLDER = Path({str(shipped.FOLDER)!r}); sys.argv = ['twil', *{list(arguments)!r}]\n"
        "from twil.cli.main import main; main()"
    )
    env = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-c", program], stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # so Linux says that the other side has been closed
            part = b""
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "").splitlines()


def test_a_terminal_shows_bars_the_likeliest_first(stand_in: Path) -> None:
    text = "qué alegría\x1b[2J de barrio"
    lines = on_a_terminal("label", text, "-m", str(stand_in / "sentiment"), "-q")
    assert lines[0].rstrip() == "qué alegría\\x1b[2J de barrio"
    drawn = [line.split() for line in lines[1:]]
    assert drawn[0][0] == "▸"
    shares = [float(cells[-1]) for cells in drawn]
    assert shares == sorted(shares, reverse=True)
    assert drawn[0][2].startswith("█" * int(24 * shares[0]))
    assert max(map(len, lines)) <= 80


def test_the_list_of_models_fits_80_columns(stand_in: Path) -> None:
    lines = on_a_terminal("models")
    assert max(map(len, lines)) <= 80
    shown = "\n".join(lines)
    for name in ("emotion", "sentiment", "twil-vectors", *(model.name for model in catalogue.PUBLISHED)):
        assert name in shown
    assert "NEG, NEU, POS" in shown


def test_models_are_listed_as_json(run: Run) -> None:
    code, out, _ = run("models", "--json")
    listed: dict[str, Any] = json.loads(out)
    assert code == 0
    assert [model["name"] for model in listed["shipped"]] == ["emotion", "sentiment", "twil-vectors"]
    assert listed["shipped"][1]["facts"] == {"version": "1.2", "date": "2026-11-30"}
    assert listed["cache"]["models"] == []
    assert all(model["source"] for model in listed["hub"] if model["score"])


def test_only_what_models_knows_can_be_done(run: Run) -> None:
    fails(run("models", "list"), "nothing to be done called 'list'")
    fails(run("models", "--all"), "--all would have no effect")
    fails(run("models", "remove"), "say what to remove")
    fails(run("models", "remove", "sentiment"), "the cache holds no model sentiment")
    assert run("models", "remove", "--all")[0] == 0
