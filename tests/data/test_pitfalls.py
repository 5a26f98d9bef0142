"""What makes scores misleading is said before training begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import write_rows

from twil.cli.console import Display
from twil.cli.training import TrainingView
from twil.config.training import finetune_config
from twil.data.labelled import LabelledColumns, LabelledSet, read_labelled
from twil.data.survey.repeats import find_pitfalls
from twil.train.finetune import FinetuneStarted, finetune_events

ROWS = {
    "train": [("hoy es lunes", "N"), ("por fin viernes", "P"), ("hoy es lunes", "N")],
    "dev": [("llueve otra vez", "P"), ("Por fin viernes!", "P"), ("hoy es lunes", "P")],
    "test": [("ni idea", "P"), ("tampoco", "N")],
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {name: write_rows(tmp_path / f"{name}.tsv", rows) for name, rows in ROWS.items()}


def test_sets_are_searched_for_texts_they_share_and_for_one_label(files: dict[str, Path]) -> None:
    sets: dict[str, LabelledSet] = {name: read_labelled(file) for name, file in files.items()}
    found = find_pitfalls(sets)
    (overlap,) = found.overlaps
    assert (overlap.name, overlap.other, overlap.same, overlap.near) == ("dev", "train", 1, 2)
    assert overlap.lines == ((4, 2), (3, 3))
    assert found.constant == {"dev": "P"}


def test_pairs_are_shared_only_where_both_texts_are(tmp_path: Path) -> None:
    rows = {"train": "hoy llueve\tya lo veo\tP", "dev": "hoy llueve\tqué va\tN\nhoy llueve\tya lo veo\tN"}
    sets = {}
    for name, row in rows.items():
        path = tmp_path / f"{name}.tsv"
        path.write_text(f"TEXT\tREPLY\tCLASS\n{row}\n", encoding="utf-8")
        sets[name] = read_labelled(path, LabelledColumns(text_pair="REPLY"))
    (overlap,) = find_pitfalls(sets).overlaps
    assert (overlap.same, overlap.lines) == (1, ((3, 2),))


@pytest.mark.parametrize("sound", [False, True])
def test_fine_tuning_says_so_when_it_starts(
    files: dict[str, Path],
    tokenizer_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sound: bool,
) -> None:
    data = {"train": files["train"], "dev": files["test" if sound else "dev"]}
    model = {"init": "tiny", "tokenizer": tokenizer_file}
    started = next(
        finetune_events(finetune_config(None, {"data": data, "model": model}, ()), tmp_path / "model")
    )
    assert isinstance(started, FinetuneStarted)
    TrainingView(Display(), resumable=False).follow([started])
    said = capsys.readouterr().err
    assert ("note: rows of dev whose text train has, too: 1 (33.3 %)" in said) is not sound
    assert ("note: all rows of dev have the label 'P'" in said) is not sound
