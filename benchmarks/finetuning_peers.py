"""The ways to fine-tune that `finetune.py` compares; run by it, in the environment that each needs.

    python finetuning_peers.py WAY MODEL TRAIN.tsv DEV.tsv ROUND_ROWS BATCH_TOKENS

A way loads its model and waits. Each line on standard input lets it train on so many rows, which it answers
with the seconds that they took and its peak of memory. Nothing of twil is imported but by the way that is
twil.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from labelling_peers import MAX_LENGTH, build_bert, load_fast_tokenizer, peak_memory, read_labels

BATCH_ROWS = 16
LONGEST = 512
DROPOUT = 0.1
COMPARED = 8
"""Rows whose logits before training tell whether the models are the same."""
LR = 1e-5


class Finished(Exception):  # noqa: N818 (it ends a way's loop and is no error)
    """There are no more rounds."""


class Pace:
    """Lets a way train when it is asked to, and answers how long it took.

    Args:
        rows: Rows of a round.
    """

    def __init__(self, rows: int) -> None:
        self.rows, self.done, self.begin, self.seconds = rows, 0, 0.0, 0.0
        self.logits: list[list[float]] | None = None
        self.answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what libraries print is no answer

    def ready(self, logits: list[list[float]] | None = None) -> None:
        """Say that training can begin, and wait for the first round."""
        self.logits = logits
        self._say("ready")
        self._wait()

    def count(self, rows: int) -> bool:
        """Count the rows of a step that has ended, and tell whether the round is over; time is taken then."""
        self.done += rows
        self.seconds = time.perf_counter() - self.begin
        return self.done >= self.rows

    def report(self) -> None:
        """Answer, and wait for the next round."""
        self._say(
            {"rows": self.done, "seconds": self.seconds, "memory": peak_memory(), "logits": self.logits}
        )
        self._wait()

    def _say(self, answer: object) -> None:
        print(json.dumps(answer), file=self.answers, flush=True)

    def _wait(self) -> None:
        if not sys.stdin.readline():
            raise Finished
        self.done, self.begin = 0, time.perf_counter()


@dataclass(frozen=True)
class Course:
    """What all ways share.

    Attributes:
        model: The model folder of twil that they start from.
        train: Labelled rows.
        dev: A few more, since twil looks at dev after every epoch; its time is not counted.
        batch_tokens: Tokens of a batch of twil, as many as a batch of the others has on average.
        pace: Whom they obey.
    """

    model: Path
    train: Path
    dev: Path
    batch_tokens: int
    pace: Pace


def run_twil(course: Course, precision: str) -> None:
    """Train as `twil finetune` does, in an arithmetic."""
    from twil.config.training import finetune_config
    from twil.train.finetune import FinetuneStarted, finetune_events
    from twil.train.loop import Evaluated, StepDone

    train = {
        "epochs": 10_000,
        "precision": precision,
        "lr": LR,
        "schedule": "constant",
        "patience": 1_000_000,
        "batch_tokens": course.batch_tokens,
        "checkpoint_minutes": 1e6,
    }
    dropouts = {"input_dropout": DROPOUT, "output_dropout": DROPOUT, "classifier": {"dropout": DROPOUT}}
    config = finetune_config(
        None,
        {
            "data": {"train": course.train, "dev": course.dev},
            "model": {"folder": course.model, **dropouts},
            "train": train,
            "optimiser": {"weight_decay": 0.01},
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        for event in finetune_events(config, Path(folder) / "model"):
            if isinstance(event, FinetuneStarted):
                course.pace.ready()
            elif isinstance(event, StepDone):
                course.pace.count(int(event.counts["rows"]))
            elif isinstance(event, Evaluated):  # an epoch is a round
                course.pace.report()


def trainer_way(
    *, longest: bool = False, grouped: bool = False, attention: float = DROPOUT, bf16: bool = False
) -> Way:
    """Make a way of the Trainer of transformers.

    Args:
        longest: Whether every row is padded to `LONGEST`, as tutorials do, and not to its batch's longest.
        grouped: Whether rows of like length share a batch.
        attention: Dropout of attention's weights, which TWilBERT does not have.
        bf16: Whether it computes in bf16 where it is safe to, else in fp32.
    """

    def run_trainer(course: Course) -> None:
        import torch
        from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

        tokenizer = load_fast_tokenizer(course.model)
        model = build_bert(course.model, hidden_dropout_prob=DROPOUT, attention_probs_dropout_prob=attention)
        texts, labels = read_labelled(course.train)
        numbers = {label: number for number, label in enumerate(read_labels(course.model))}
        padding = {"padding": "max_length", "max_length": LONGEST} if longest else {"max_length": MAX_LENGTH}
        columns = tokenizer(texts, truncation=True, **padding)
        rows = [
            {**{name: column[row] for name, column in columns.items()}, "labels": numbers[label]}
            for row, label in enumerate(labels)
        ]
        collator = DataCollatorWithPadding(tokenizer)
        few = collator([dict(row) for row in rows[:COMPARED]])
        few.pop("labels")
        with torch.inference_mode():
            logits = model(**few).logits.tolist()

        class Turn(TrainerCallback):
            def on_train_begin(self, *_arguments: object, **_options: object) -> None:
                course.pace.ready(logits)

            def on_step_end(self, *_arguments: object, **_options: object) -> None:
                if course.pace.count(BATCH_ROWS):
                    course.pace.report()

        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=BATCH_ROWS,
                num_train_epochs=10_000,
                learning_rate=LR,
                lr_scheduler_type="constant",
                weight_decay=0.01,
                train_sampling_strategy="group_by_length" if grouped else "random",
                use_cpu=True,
                bf16=bf16,
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
            )
            Trainer(model, arguments, data_collator=collator, train_dataset=rows, callbacks=[Turn()]).train()

    return run_trainer


Way = Callable[[Course], None]
WAYS: dict[str, Way] = {
    "trainer-512": trainer_way(longest=True),
    "trainer-dynamic": trainer_way(),
    "trainer-grouped": trainer_way(grouped=True),
    "trainer-grouped-plain": trainer_way(grouped=True, attention=0.0),
    "trainer-grouped-bf16": trainer_way(grouped=True, bf16=True),
    "twil": partial(run_twil, precision="fp32"),
    "twil-bf16": partial(run_twil, precision="bf16"),
}


def read_labelled(path: Path) -> tuple[list[str], list[str]]:
    """Read texts and labels of a TSV with the columns ID, TEXT and CLASS."""
    lines = path.read_text(encoding="utf-8").split("\n")[1:]
    cells = [line.split("\t") for line in lines if line]
    return [row[1] for row in cells], [row[2] for row in cells]


def main() -> None:
    way, model, train, dev, round_rows, batch_tokens = sys.argv[1:]
    course = Course(Path(model), Path(train), Path(dev), int(batch_tokens), Pace(int(round_rows)))
    try:
        WAYS[way](course)
    except Finished:
        return


if __name__ == "__main__":
    main()
