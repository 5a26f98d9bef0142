"""fastText for `quality.py`, which runs this in an environment of its own.

    python quality_peers.py < ASKED.json > LOGITS.json

Reads texts by set, the training set's answers and a seed; writes, for each of several settings, the logits of
dev and test. The seed decides the order of the training rows, and how fastText draws.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import fasttext

SETTINGS = [
    {"lr": lr, "epoch": epoch, "wordNgrams": 2, "minn": shortest, "maxn": longest, "dim": 100}
    for lr, epoch, (shortest, longest) in itertools.product((0.1, 0.5), (10, 40), ((0, 0), (3, 6)))
]
BUCKETS = 200_000
"""Of n-grams: a tenth of its default, which these sets do not fill."""
LEAST = 1e-6


def main() -> None:
    asked = json.load(sys.stdin)
    several = isinstance(asked["targets"][0], list)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "train.txt")
        write(file, asked["texts"]["train"], asked["targets"], asked["seed"])
        found = []
        for setting in SETTINGS:
            loss = {"loss": "ova" if several else "softmax"}
            model = fasttext.train_supervised(
                str(file), **setting, **loss, bucket=BUCKETS, thread=1, verbose=0
            )
            parts = {part: rows for part, rows in asked["texts"].items() if part != "train"}
            found.append(
                {part: logits(model, rows, asked["labels"], several) for part, rows in parts.items()}
            )
    json.dump(found, sys.stdout)


def write(file: Path, texts: list[str], targets: list[Any], seed: int) -> None:
    lines = []
    for text, target in zip(texts, targets, strict=True):
        labels = (
            [place for place, is_there in enumerate(target) if is_there]
            if isinstance(target, list)
            else [target]
        )
        lines.append(" ".join([*(f"__label__{label}" for label in labels), prepare(text)]))
    random.Random(seed).shuffle(lines)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def prepare(text: str) -> str:
    return " ".join(text.lower().split())


def logits(model: Any, texts: list[str], labels: int, several: bool) -> list[list[float]]:
    rows = []
    for text in texts:
        row = [LEAST] * labels
        for name, probability in zip(*model.predict(prepare(text), k=labels), strict=True):
            row[int(name.removeprefix("__label__"))] = min(max(float(probability), LEAST), 1 - LEAST)
        rows.append([math.log(each / (1 - each) if several else each) for each in row])
    return rows


if __name__ == "__main__":
    main()
