"""The recipes of shared tasks: each is whole, asks what its task asks, and one command runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tuning import twil_command

from twil.config.settings import read_toml
from twil.config.training import FinetuneConfig, finetune_config
from twil.core.errors import ConfigError
from twil.data.labelled import LabelledColumns, find_labels, read_labelled
from twil.train.finetune import FinetuneFinished, finetune_events

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))
EMOTIONS = (
    *("anger", "anticipation", "disgust", "fear", "joy", "love"),
    *("optimism", "pessimism", "sadness", "surprise", "trust"),
)
STANCES = ("AGAINST", "FAVOR", "NEUTRAL")


def recipe(name: str) -> FinetuneConfig:
    return finetune_config(RECIPES / f"{name}.toml", {"model": {"folder": "encoder"}})


def test_every_task_has_its_recipe() -> None:
    assert [
        *("brighter_es", "cic_es", "emo50k_es", "goldtox_es", "haha21", "irosva19_cu", "irosva19_es"),
        *("irosva19_mx", "multistance18", "semeval18_ec_es", "umsab_spanish"),
    ] == NAMES
    page = (RECIPES / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_whole_and_names_its_own_files(name: str) -> None:
    text = (RECIPES / f"{name}.toml").read_text(encoding="utf-8")
    assert f"twil finetune --config {name} --model ENCODER -o {name}\n" in text
    data = recipe(name).data
    files = [data.train, data.dev, *([data.test] if data.test else [])]
    assert [file.parts[0] for file in files] == ["data"] * len(files)
    assert {file.parent.name for file in files} == {name}
    assert [file.stem for file in files] == ["train", "dev", "test"][: len(files)]


def test_recipes_go_by_name_where_there_is_no_such_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "irosva19_es").mkdir()  # a folder is no file of settings
    assert read_toml(Path("irosva19_es"))["data"]["train"] == "data/irosva19_es/train.tsv"
    assert read_toml(Path("reviews/camembert"))["model"]
    (tmp_path / "tiny").write_text("[train]\nsteps = 3\n", encoding="utf-8")
    assert read_toml(Path("tiny")) == {"train": {"steps": 3}}
    with pytest.raises(ConfigError, match=r"no file irosva_es, and no recipe of that name; irosva19_es or"):
        read_toml(Path("irosva_es"))
    with pytest.raises(ConfigError, match=r"^there is no file missing\.toml$"):
        read_toml(Path("missing.toml"))


def test_the_command_lists_shows_and_writes_recipes(tmp_path: Path) -> None:
    listed = {one["name"]: one for one in json.loads(twil_command("recipes", "--json").output)}
    assert {*NAMES, "tiny", "base", "reviews/distilbert"} <= listed.keys()
    assert all(one["about"] and one["command"] in ("pretrain", "finetune") for one in listed.values())
    assert (
        twil_command("recipes", "tiny").output
        == RECIPES.with_name("configs").joinpath("tiny.toml").read_text()
    )
    assert twil_command("recipes", "tiny", "-o", tmp_path / "mine.toml").exit_code == 0
    assert read_toml(tmp_path / "mine.toml") == read_toml(Path("tiny"))
    again = twil_command("recipes", "tiny", "-o", tmp_path / "mine.toml")
    assert (again.exit_code, "is there already" in again.output) == (1, True)


def test_labels_stand_in_the_order_of_their_task() -> None:
    emotions = recipe("semeval18_ec_es")
    assert (emotions.data.kind, emotions.data.labels) == ("multi-label", EMOTIONS)
    assert emotions.train.metric == "jaccard"
    for name in ("cic_es", "multistance18"):
        data = recipe(name).data
        assert (data.task, data.labels) == ("stance", STANCES)
        assert data.make_task(STANCES).scored == ("AGAINST", "FAVOR")
    assert recipe("multistance18").data.text_pair == "PREV"


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_fits_the_real_files(name: str, shared: Path) -> None:
    data = recipe(name).data
    columns = LabelledColumns(data.text, data.text_pair, data.label)
    sets = [
        read_labelled(shared / file, columns, data.kind) for file in (data.train, data.dev, data.test) if file
    ]
    task = data.make_task(data.labels or find_labels(sets[0], data.kind))
    for rows in sets:
        assert len(rows.targets(task)) == len(rows)
    emotions = {"semeval18_ec_es": 11, "brighter_es": 6}
    assert sets[0].targets(task).shape[1:] == ((emotions[name],) if name in emotions else ())
    if name in emotions:
        source = (shared / data.train).with_name("SOURCE.txt").read_text(encoding="utf-8")
        assert f" {' '.join(task.labels)}" in source.replace(",", "")


def test_a_recipe_runs_as_it_is(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_emotions(tmp_path / "data" / "semeval18_ec_es")
    monkeypatch.chdir(tmp_path)
    fresh = {"init": "tiny", "tokenizer": tokenizer_file, "encoder": {"n_layers": 1}}
    options = {"model": fresh, "train": {"epochs": 1}}
    *_, done = finetune_events(finetune_config(RECIPES / "semeval18_ec_es.toml", options), "emotions")
    assert isinstance(done, FinetuneFinished)
    assert (done.task.labels, done.metric) == (EMOTIONS, "jaccard")
    assert done.test is not None
    assert done.test.labels["joy"]["support"] == 2
    record = json.loads((tmp_path / "emotions" / "run.json").read_text(encoding="utf-8"))
    assert record["config"]["model"]["classifier"]["pooling"] == "avg"


def write_emotions(folder: Path) -> None:
    """Write a set of tweets that are glad, sad and frightened, or nothing."""
    folder.mkdir(parents=True)
    rows = {
        "qué alegría verte, por fin vacaciones": {"joy", "love"},
        "no puedo dejar de llorar y me da miedo mañana": {"sadness", "fear"},
        "el autobús sale a las nueve": set[str](),
        "hoy ha salido todo bien": {"joy"},
    }
    lines = [
        f"{number}\t{text}\t{'|'.join(str(int(emotion in found)) for emotion in EMOTIONS)}"
        for number, (text, found) in enumerate(rows.items())
    ]
    for part in ("train", "dev", "test"):
        (folder / f"{part}.tsv").write_text("\n".join(["ID\tTEXT\tCLASS", *lines, ""]), encoding="utf-8")
