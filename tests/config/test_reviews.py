"""The recipes of film reviews: one command for each row, one for the table."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hub_models import library, make_hub_folder
from tuning import twil_command

from twil.config.training import FinetuneConfig, finetune_config
from twil.model.folder import describe

pytest.importorskip("transformers", reason="the extra 'hub' is not installed")

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "reviews"
NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))
KINDS = {"distilbert": "distilbert", "siebert": "roberta", "camembert": "camembert"}
LIMIT = 12


def recipe(name: str) -> FinetuneConfig:
    return finetune_config(RECIPES / f"{name}.toml", {})


def commands() -> list[str]:
    """Give the commands of the page."""
    page = (RECIPES / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^    (twil .*)$", page, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give a tiny model of each family, with the labels of the real one."""
    folder = tmp_path_factory.mktemp("models")
    made = {"distilbert": make_hub_folder(folder / "distilbert", "distilbert")}
    for name in ("siebert", "camembert"):
        labels = dict(enumerate(recipe(name).model.map_labels))
        made[name] = make_hub_folder(folder / name, KINDS[name], "classifier", id2label=labels)
    return made


def test_each_row_of_the_table_has_its_recipe_and_its_command() -> None:
    rows = ["distilbert", "siebert", "camembert", "siebert_tuned", "camembert_tuned"]
    assert sorted(rows) == NAMES
    *tuning, table = commands()
    assert tuning == [f"twil finetune --config reviews/{name} -o {name}" for name in rows]
    assert table.split()[3:8] == rows


def test_what_is_taken_as_it_is_differs_from_what_is_trained_by_the_training_alone() -> None:
    for name in ("siebert", "camembert"):
        as_it_is, tuned = recipe(name), recipe(f"{name}_tuned")
        assert (as_it_is.data, as_it_is.model) == (tuned.data, tuned.model)
        assert (as_it_is.train.epochs, tuned.train.epochs) == (0, 1)
        assert tuned.train == recipe("distilbert").train


def test_the_commands_of_the_page_make_the_table(
    models: dict[str, Path], shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shared / "data" / "imdb_en"
    folders = {name: str(tmp_path / name) for name in NAMES}
    *tuning, table = (shlex.split(command)[1:] for command in commands())
    for command in tuning:
        name = command[-1]
        files = [data / "train_1000.csv", "--test", data / "test_1000.csv", "--limit", LIMIT]
        own = ["--config", RECIPES / f"{name}.toml", "--model", models[name.removesuffix("_tuned")]]
        done = twil_command(command[0], *files, *own, "-o", folders[name])
        assert done.exit_code == 0, done.stderr
        assert library().AutoModelForSequenceClassification.from_pretrained(folders[name])
        task = describe(folders[name]).task
        assert task is not None
        assert set(task.labels) == {"negative", "positive"}
    compare = [folders.get(part, part) for part in table]
    compare[1], compare[compare.index("--limit") + 1] = str(data / "test_1000.csv"), str(LIMIT)
    done = twil_command(*compare, "--resamples", 200)
    assert done.exit_code == 0, done.stderr
    for column in (
        "layers",
        "parameters",
        "training",
        "time",
        "accuracy",
        "precision:positive",
        "f1:positive",
    ):
        assert column in done.stdout
    assert re.search(r"siebert +roberta +2 +4 +32 ", done.stdout)
