"""The ways to train and evaluate on long reviews that `reviews.py` compares; run by it.

    python reviews_peers.py WAY MODEL TRAIN.csv TEST.csv ROUND_ROWS BATCH_TOKENS

A way loads its model and waits. Each line on standard input lets it go on with so many rows, which it
answers with the seconds that they took and its peak of memory. Nothing of twil is imported by those that
are not twil.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from finetuning_peers import BATCH_ROWS, Finished, Pace

LONGEST = 512
LR = 5e-5
LABELS = ("negative", "positive")
TEXT, LABEL = "review", "sentiment"
COMPARED = 8
"""Rows whose logits tell whether the models are the same."""


@dataclass(frozen=True)
class Reading:
    """What all ways share.

    Attributes:
        model: The folder that they load; of the int8 way a bundle.
        train: Labelled reviews to learn from.
        test: Labelled reviews to answer.
        batch_tokens: Tokens of a batch of twil, as many as 16 reviews have on average.
        pace: Whom they obey.
    """

    model: Path
    train: Path
    test: Path
    batch_tokens: int
    pace: Pace


def read_reviews(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def padded_batches(reading: Reading, path: Path, *, shuffle: bool) -> Iterator[dict[str, Any]]:
    """Give batches of 16 reviews, all padded to what the model reads, for ever."""
    import torch
    from transformers import AutoTokenizer

    rows = read_reviews(path)
    tokenizer = AutoTokenizer.from_pretrained(reading.model)
    encoded = tokenizer(
        [row[TEXT] for row in rows],
        padding="max_length",
        truncation=True,
        max_length=LONGEST,
        return_tensors="pt",
    )
    labels = torch.tensor([LABELS.index(row[LABEL]) for row in rows])
    columns = {
        "input_ids": encoded["input_ids"],
        "attention_mask": encoded["attention_mask"],
        "labels": labels,
    }
    data = torch.utils.data.TensorDataset(*columns.values())
    for _ in count():
        for batch in torch.utils.data.DataLoader(data, batch_size=BATCH_ROWS, shuffle=shuffle):
            yield dict(zip(columns, batch, strict=True))


def train_notebook(reading: Reading) -> None:
    """Train in a plain loop."""
    import torch
    from transformers import AutoModelForSequenceClassification, get_scheduler

    model = AutoModelForSequenceClassification.from_pretrained(reading.model, num_labels=len(LABELS))
    optimiser = torch.optim.AdamW(model.parameters(), lr=LR)
    schedule = get_scheduler("linear", optimizer=optimiser, num_warmup_steps=0, num_training_steps=10_000)
    model.train()
    batches = padded_batches(reading, reading.train, shuffle=True)
    reading.pace.ready()
    for batch in batches:
        model(**batch).loss.backward()
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if reading.pace.count(len(batch["labels"])):
            reading.pace.report()


def evaluate_notebook(reading: Reading) -> None:
    """Answer in a plain loop."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(reading.model).eval()
    batches = padded_batches(reading, reading.test, shuffle=False)
    reading.pace.ready()
    for batch in batches:
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        if reading.pace.logits is None:
            reading.pace.logits = logits[:COMPARED].tolist()
        if reading.pace.count(len(logits)):
            reading.pace.report()


def train_twil(reading: Reading) -> None:
    """Train as `twil finetune` does; a round is an epoch."""
    from twil.config.training import finetune_config
    from twil.train.finetune import FinetuneStarted, finetune_events
    from twil.train.loop import Evaluated, StepDone

    config = finetune_config(
        None,
        {
            "data": {"train": reading.train, "dev": reading.test, "text": TEXT, "label": LABEL},
            "model": {"folder": reading.model},
            "train": {
                "epochs": 10_000,
                "lr": LR,
                "schedule": "constant",
                "patience": 1_000_000,
                "batch_tokens": reading.batch_tokens,
                "checkpoint_minutes": 1e6,
            },
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        for event in finetune_events(config, Path(folder) / "model"):
            if isinstance(event, FinetuneStarted):
                reading.pace.ready()
            elif isinstance(event, StepDone):
                reading.pace.count(int(event.counts["rows"]))
            elif isinstance(event, Evaluated):
                reading.pace.report()


def evaluate_twil(reading: Reading) -> None:
    """Answer as `twil evaluate` does, a model folder or a bundle, all rows at a time."""
    from twil.evaluation.classifiers import open_classifier

    rows = [row[TEXT] for row in read_reviews(reading.test)]
    with open_classifier(reading.model, batch_tokens=reading.batch_tokens) as classifier:
        logits = classifier.answer(rows[:COMPARED]).logits.tolist()
        reading.pace.ready(logits)
        while True:
            classifier.answer(rows, warm_up=False)
            reading.pace.count(len(rows))
            reading.pace.report()


WAYS: dict[str, Callable[[Reading], None]] = {
    "train-notebook": train_notebook,
    "train-twil": train_twil,
    "evaluate-notebook": evaluate_notebook,
    "evaluate-twil": evaluate_twil,
    "evaluate-twil-int8": evaluate_twil,
}


def main() -> None:
    way, model, train, test, round_rows, batch_tokens = sys.argv[1:]
    reading = Reading(Path(model), Path(train), Path(test), int(batch_tokens), Pace(int(round_rows)))
    try:
        WAYS[way](reading)
    except Finished:
        return


if __name__ == "__main__":
    main()
