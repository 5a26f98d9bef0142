"""What comes with twil: it is there, small enough, with cards, and labels plain tweets as people would."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Run

from twil.bundle.names import card_facts
from twil.inference.predictor import Predictor
from twil.shipped import ENCODER, FOLDER, shipped_names

BUNDLES = ("emotion", "sentiment")
SENTIMENTS = {
    "positive": (
        "¡Feliz cumpleaños, hermana! Te quiero muchísimo ❤️",
        "qué maravilla de concierto, ha sido una noche preciosa",
        "me encanta este barrio, qué gente tan maja 😍",
        "Gracias a todos por el cariño, sois los mejores",
    ),
    "negative": (
        "qué asco de día, todo me sale mal",
        "el servicio fue horrible y la comida estaba fría, no vuelvo",
        "estoy harta de que el autobús llegue siempre tarde 😡",
        "me ha dejado tirado otra vez, qué decepción tan grande",
    ),
    "neutral": (
        "mañana a las 10 hay reunión en el centro cultural",
        "¿a qué hora abre la biblioteca los sábados?",
    ),
}
EMOTIONS = {
    "anger": (
        "estoy furioso, me han vuelto a mentir en la cara, qué rabia",
        "me tienen harta con tanta mentira",
    ),
    "disgust": ("qué asco, había una cucaracha en la ensalada",),
    "fear": ("qué miedo me da volver sola a casa por esa calle de noche", "estoy aterrada con la operación"),
    "joy": ("estoy tan feliz, por fin me han dado el trabajo 😄", "qué alegría verte, me has hecho el día"),
    "sadness": ("echo mucho de menos a mi abuela, no paro de llorar 😢", "me siento muy sola estos días"),
    "surprise": ("¡no me lo puedo creer, vaya sorpresa!",),
    "": ("la reunión es el martes a las diez en la sala grande", "el tren de Sevilla sale del andén tres"),
}


def files(name: str) -> Iterator[Path]:
    return (path for path in (FOLDER / name).rglob("*") if path.is_file())


def size(name: str) -> float:
    return sum(path.stat().st_size for path in files(name)) / 1e6


def test_all_is_there_and_small_enough() -> None:
    assert shipped_names() == [*BUNDLES, ENCODER]
    assert all(size(name) <= 10 for name in BUNDLES)
    assert size(ENCODER) <= 12
    assert sum(map(size, shipped_names())) <= 40


@pytest.mark.parametrize("name", [*BUNDLES, ENCODER])
def test_each_has_a_card_and_tells_no_path_of_the_machine_that_made_it(name: str) -> None:
    card = (FOLDER / name / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}\n")
    assert set(card_facts(FOLDER / name)) == {"version", "date"}
    for told in ("multilingual-e5-small", "MIT", "CC BY 4.0", "Apache-2.0", "2024"):
        assert told in card
    if name in BUNDLES:
        assert re.search(r"mean of those of 3 runs .* 0\.\d{3} ± 0\.\d{3} in fp32", card)
        assert re.search(r"\| all \| [\d,]+ \| 0\.\d{3} \| 0\.\d{3} – 0\.\d{3} \|", card)
    for path in files(name):
        if path.suffix in (".json", ".md") and path.name != "tokenizer.json":
            told = path.read_text(encoding="utf-8")
            assert not re.search(r'"/(?!model/)\w|\s/(?:home|root|tmp|work|mnt)/', told), path


@pytest.mark.parametrize(("name", "texts"), [("sentiment", SENTIMENTS), ("emotion", EMOTIONS)])
def test_plain_tweets_are_labelled_as_people_do(name: str, texts: dict[str, tuple[str, ...]]) -> None:
    with Predictor(name) as predictor:
        for label, examples in texts.items():
            for text, found in zip(examples, predictor(list(examples)), strict=True):
                assert label in found.label.split("|"), (text, found.label)


def test_a_file_is_labelled_with_nothing_else_given(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "tweets.tsv"
    file.write_text("ID\ttweet\n1\tqué asco de día, todo me sale mal\n", encoding="utf-8")
    code, out, err = run("predict", file, "-o", "-")
    assert code == 0
    assert [line.split("\t")[:2] for line in out.splitlines()] == [["ID", "label"], ["1", "negative"]]
    assert "sentiment, which comes with twil (version 1" in err
    assert "\nsentiment on cpu" in err


def test_the_encoder_is_fine_tuned_where_no_model_is_named(run: Run, tmp_path: Path) -> None:
    rows = [
        *((text, "N") for text in SENTIMENTS["negative"]),
        *((text, "P") for text in SENTIMENTS["positive"]),
    ]
    file = tmp_path / "labelled.tsv"
    lines = ["ID\tTEXT\tCLASS", *(f"{number}\t{text}\t{label}" for number, (text, label) in enumerate(rows))]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    code, _, err = run("finetune", file, "--epochs", 1, "-o", tmp_path / "model")
    assert code == 0
    assert ENCODER in err
    record = json.loads((tmp_path / "model" / "run.json").read_text(encoding="utf-8"))
    assert record["preparation"]["name"] == "cardiffnlp"


def test_labels_need_no_training_library() -> None:
    program = (
        "import sys, twil; twil.Predictor()('me encanta este barrio'); "
        "print([name for name in ('torch', 'transformers', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
