"""The models that can be named: those that come with twil, and those known on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from twil.bundle.bundle import is_bundle, open_bundle
from twil.bundle.names import card_facts
from twil.shipped import shipped_model, shipped_names
from twil.text.preparation import usual_preparation


@dataclass(frozen=True)
class ShippedModel:
    """A model that comes with twil.

    Attributes:
        name: What it is called.
        kind: What its bundle gives; ``model folder`` of one that is trained further.
        labels: Of a classifier.
        precision: Of a bundle's arithmetic; empty of a model folder.
        size: Its bytes.
        facts: Version and date, as far as its card tells them.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    precision: str
    size: int
    facts: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return asdict(self)


@dataclass(frozen=True)
class PublishedModel:
    """A model of the hub for Spanish tweets.

    Attributes:
        name: Its name there.
        task: What it tells; ``encoder`` of one that is to be fine-tuned.
        score: What was published of it.
        source: Where.
    """

    name: str
    task: str
    score: str = ""
    source: str = ""

    @property
    def preparation(self) -> str:
        """The name of what is done to texts before they are cut into tokens; empty where nothing is."""
        usual = usual_preparation(self.name)
        return usual.name if usual else ""

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return asdict(self) | {"preparation": self.preparation}


PUBLISHED = (
    PublishedModel(
        "pysentimiento/robertuito-sentiment-analysis",
        "sentiment: NEG, NEU, POS",
        "macro-F1 .705 ± .003 on TASS 2020",
        "its card",
    ),
    PublishedModel(
        "pysentimiento/robertuito-emotion-analysis",
        "emotion: six and others",
        "macro-F1 .560 ± .010 on TASS 2020, task 2",
        "its card",
    ),
    PublishedModel(
        "pysentimiento/robertuito-hate-speech",
        "hate speech: hateful, targeted, aggressive",
        "macro-F1 .759 ± .007 on SemEval 2019, task 5 B",
        "its card",
    ),
    PublishedModel(
        "pysentimiento/robertuito-irony",
        "irony",
        "macro-F1 .739 ± .005 on IroSvA 2019",
        "its card",
    ),
    PublishedModel(
        "cardiffnlp/twitter-xlm-roberta-base-sentiment",
        "sentiment: negative, neutral, positive",
    ),
    PublishedModel(
        "pysentimiento/robertuito-base-uncased",
        "encoder",
        "fine-tuned: macro-F1 .707 ± .004 on TASS 2020, .736 ± .008 on IroSvA 2019",
        "its card",
    ),
    PublishedModel(
        "cardiffnlp/twitter-xlm-roberta-base",
        "encoder",
        "fine-tuned: macro-F1 .685 on the Spanish part of UMSAB",
        "Barbieri et al. 2022",
    ),
)


def shipped_models() -> list[ShippedModel]:
    """Look at the models that come with twil.

    Raises:
        ModelError: A bundle is damaged.
    """
    return [_look_at(name) for name in shipped_names()]


def _look_at(name: str) -> ShippedModel:
    folder = shipped_model(name)
    assert folder is not None  # it was listed
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    facts = card_facts(folder)
    if not is_bundle(folder):
        return ShippedModel(name, "model folder", (), "", size, facts)
    manifest = open_bundle(folder).manifest
    labels = manifest.task.labels if manifest.task else ()
    return ShippedModel(name, manifest.kind, labels, manifest.precision, size, facts)
