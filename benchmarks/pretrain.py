"""Measure pretraining beside the transformers Trainer, on real pairs, in one run of interleaved rounds.

    python benchmarks/pretrain.py --data FOLDER [--work FOLDER] [--rounds 5] [--rows 96]
    python benchmarks/pretrain.py --data FOLDER --ways --output benchmarks/results/pretrain_ways
    python benchmarks/pretrain.py --data FOLDER --device cuda

Each contestant is a process of its own that keeps its model, waits, and takes one optimiser step of `rows`
rows (several on CUDA) when its turn comes; the first step of each is not counted. All learn masked tokens and
reply order from the same corpus with the same tokenizer and as many rows a step, in random order, without
dropout. The Trainer does what it does by default: batches of 32, padded to their longest row, accumulated to
a step, its language head on every token, fused AdamW.

Counted are real tokens, pads left out. The work of a token is that of the shape: three times the products of
the forward pass, with the language head on the masked tokens alone, whatever a contestant computes besides.
Its rate is set against the fastest matrix product measured between the rounds.

    BERT 6×768: 6 layers, 12 heads of 64, the peer's shape      TWilBERT base: the same with 6 heads of 64

`--device cuda` compares twil's ways on a GPU for base and large: packed or padded, compiled or not, bf16.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from twil.config.model import PRESETS, EncoderConfig
from twil.core.machine import available_cpus, cpu_flags, cpu_name
from twil.core.version import __version__
from twil.data.corpus.build import CorpusOptions, build_corpus
from twil.data.corpus.corpus import open_corpus
from twil.data.samples import frame_pairs
from twil.text.tokenizer import SPECIAL, load_tokenizer, save_tokenizer
from twil.text.vocabulary import texts_of, train_vocabulary

BUDGET = 0.15
TRAINER_BATCH = 32
TRAINER_ROWS = 20_000
ORIGINAL = {"TensorFlow 1.15": 236, "TensorFlow 1.10": 144}
"""Tokens/s of the original's train step: its base shape, 32 pairs of 43 tokens, 2 cores of another CPU."""
GPU: dict[str, Any] = {"batch_tokens": 32_768}
PAGE = """# {title}

Written by `benchmarks/pretrain.py`, which says what is counted: twil {twil}, torch {torch}, transformers
{transformers}, {machine}. {rounds} rounds of {steps} step(s) of {rows_of_a_step:,} rows, {order}; pairs of
{length:.0f} tokens on average, {tokens:,} in the vocabulary. Medians; a ratio is the median of the rounds'
ratios. Fastest matrix product of all rounds, GFLOP/s: {limits}.

{table}
"""
BERT: dict[str, Any] = {**PRESETS["base"], "n_heads": 12}
SHAPES: dict[str, dict[str, Any]] = {
    "BERT 6×768": BERT,
    "TWilBERT base": PRESETS["base"],
    "TWilBERT large": PRESETS["large"],
}


@dataclass(frozen=True)
class Contestant:
    """One way to pretrain one shape.

    Attributes:
        way: `Trainer` or `twil`.
        shape: One of `SHAPES`.
        precision: As twil calls it.
        settings: What its training loop is told besides.
    """

    way: str
    shape: str
    precision: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        said = [f"{key} {value}" for key, value in self.settings.items()]
        return ", ".join([self.way, self.shape, self.precision, *said])


@dataclass(frozen=True)
class Course:
    """What all contestants share.

    Attributes:
        corpus: The folder that `twil corpus` wrote.
        device: `cpu` or `cuda`.
        rows: Rows of a step.
        warmup: Steps that are not counted.
        steps: Steps of a round.
    """

    corpus: Path
    device: str
    rows: int
    warmup: int
    steps: int


@dataclass(frozen=True)
class Row:
    """What came of a contestant: medians over the rounds."""

    name: str
    tokens_per_second: float
    lowest: float
    highest: float
    ratio_same: float | None
    ratio_fastest: float | None
    flops: float
    share: float


class Finished(Exception):  # noqa: N818 (it ends a contestant's loop and is no error)
    """The contest is over."""


class Pace:
    """Holds a contestant back until its turn comes.

    Args:
        connection: To the referee, who sends `True` for a round and `False` for the end.
        course: How many steps a round has.
    """

    def __init__(self, connection: Connection, course: Course) -> None:
        self.connection, self.course = connection, course
        self.left, self.tokens, self.begin = course.warmup, 0, time.perf_counter()

    def step(self, tokens: int) -> None:
        """Count the real tokens of a step that has ended; at the end of a round, report it and wait."""
        self.left, self.tokens = self.left - 1, self.tokens + tokens
        if self.left:
            return
        if self.course.device == "cuda":
            torch.cuda.synchronize()
        self.connection.send((self.tokens, time.perf_counter() - self.begin))
        if not self.connection.recv():
            raise Finished
        self.left, self.tokens, self.begin = self.course.steps, 0, time.perf_counter()


def contend(connection: Connection, contestant: Contestant, course: Course) -> None:
    """Run a contestant in its own process."""
    run: Callable[..., None] = run_trainer if contestant.way == "Trainer" else run_twil
    try:
        run(contestant, course, Pace(connection, course))
    except Finished:
        return


def run_twil(contestant: Contestant, course: Course, pace: Pace) -> None:
    """Train through the loop that `twil pretrain` runs."""
    from twil.config.pretraining import pretrain_config
    from twil.train.loop import StepDone
    from twil.train.pretraining import pretrain_events

    train = {
        "steps": 1_000_000,
        "batch_rows": course.rows,
        "precision": contestant.precision,
        "lr": 1e-4,
        "schedule": "constant",
        "checkpoint_minutes": 1e6,
        **contestant.settings,
    }
    value = {"model": {"encoder": SHAPES[contestant.shape]}, "train": train}
    config = pretrain_config(value, {"data": {"corpus": course.corpus}})
    with tempfile.TemporaryDirectory() as folder:
        for event in pretrain_events(config, Path(folder) / "model", device=course.device):
            if isinstance(event, StepDone):
                pace.step(int(event.counts["tokens"]))


def run_trainer(contestant: Contestant, course: Course, pace: Pace) -> None:
    """Train BERT of the same shape with the Trainer of transformers."""
    from transformers import (
        BertConfig,
        BertForPreTraining,
        DataCollatorForLanguageModeling,
        PreTrainedTokenizerFast,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    names = dict(zip(("pad", "unk", "mask", "cls", "sep"), SPECIAL, strict=True))
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=load_tokenizer(course.corpus / "tokenizer.json"),
        **{f"{name}_token": token for name, token in names.items()},
    )
    shape = EncoderConfig(vocab_size=len(tokenizer), **SHAPES[contestant.shape])
    assert shape.n_heads * shape.head_size == shape.hidden_size
    model = BertForPreTraining(
        BertConfig(
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.n_layers,
            num_attention_heads=shape.n_heads,
            intermediate_size=shape.feed_forward_size,
            max_position_embeddings=shape.max_positions,
            hidden_dropout_prob=0.0,  # as in the recipe of TWilBERT; twil's shapes have none either
            attention_probs_dropout_prob=0.0,
        )
    )
    tokens = 0

    def count(_module: torch.nn.Module, _arguments: object, inputs: dict[str, torch.Tensor]) -> None:
        nonlocal tokens
        tokens += int(inputs["attention_mask"].sum())

    class Turn(TrainerCallback):
        def on_step_end(self, *_arguments: object, **_options: object) -> None:
            nonlocal tokens
            done, tokens = tokens, 0
            pace.step(done)

    model.register_forward_pre_hook(count, with_kwargs=True)
    batch = TRAINER_BATCH if course.device == "cpu" else min(256, course.rows)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=course.rows // batch,
            max_steps=1_000_000,
            learning_rate=1e-4,
            lr_scheduler_type="constant",
            weight_decay=0.01,
            bf16=contestant.precision == "bf16",
            use_cpu=course.device == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        Trainer(
            model,
            arguments,
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=BUDGET),
            train_dataset=read_rows(course.corpus),
            callbacks=[Turn()],
        ).train()


def read_rows(corpus: Path) -> list[dict[str, Any]]:
    """Read pairs drawn at random, each in both orders, as the Trainer takes them."""
    pairs = open_corpus(corpus).train.pairs
    assert pairs is not None
    rng = np.random.default_rng(1)
    chosen = rng.choice(len(pairs), min(len(pairs), TRAINER_ROWS // 2), replace=False)
    tokens, lengths = pairs.tokens(chosen)
    rows = []
    for swapped in (0, 1):
        framed = frame_pairs(tokens, lengths, np.full(len(chosen), bool(swapped)), rop=True)
        borders = np.cumsum(framed.lengths)[:-1]
        columns = (np.split(framed.input_ids, borders), np.split(framed.segment_ids, borders))
        rows += [
            {"input_ids": ids.tolist(), "token_type_ids": kinds.tolist(), "next_sentence_label": swapped}
            for ids, kinds in zip(*columns, strict=True)
        ]
    return rows


def product_rate(dtype: torch.dtype, device: str) -> float:
    """Measure the matrix product, the best of several, in FLOP/s."""
    size = 8192 if device == "cuda" else 2048
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(6):
        begin = time.perf_counter()
        one @ other
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / min(seconds)


def work_per_token(shape: EncoderConfig, lengths: np.ndarray) -> float:
    """Count the operations of one token, forward and backward, in rows of these lengths."""
    width = shape.n_heads * shape.head_size
    weights = shape.n_layers * (
        4 * shape.hidden_size * width + 2 * shape.hidden_size * shape.feed_forward_size
    )
    attended = float((lengths**2).sum() / lengths.sum())  # the row's length, seen from a token
    scores = 2 * shape.n_layers * attended * width
    head = BUDGET * shape.hidden_size * shape.vocab_size
    return 3 * 2 * (weights + scores + head)


def compete(contestants: Sequence[Contestant], course: Course, rounds: int) -> dict[str, Any]:
    """Let all take turns; return tokens/s by contestant and round, and the matrix product by precision."""
    rates: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    products: dict[str, list[float]] = {"fp32": [], "bf16": []}
    with start(contestants, course) as lines:
        for number in range(1, rounds + 1):
            for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
                products[precision].append(product_rate(dtype, course.device))
            for name, line in list(lines.items()):
                try:
                    line.send(True)
                    tokens, seconds = line.recv()
                except (EOFError, BrokenPipeError):
                    print(f"round {number}  {name}: ended with an error", flush=True)
                    del lines[name]
                    continue
                rates[name].append(tokens / seconds)
                print(f"round {number}  {name}: {tokens / seconds:,.0f} tokens/s", flush=True)
    return {"rates": rates, "products": products}


@contextmanager
def start(contestants: Sequence[Contestant], course: Course) -> Iterator[dict[str, Connection]]:
    """Start the contestants one after another, so that none warms up beside another."""
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection] = {}
    processes = []
    try:
        for contestant in contestants:
            line, far = context.Pipe()
            process = context.Process(target=contend, args=(far, contestant, course), daemon=True)
            process.start()
            processes.append(process)
            far.close()  # so that its death is heard of
            try:
                line.recv()
            except EOFError:
                print(f"{contestant.name}: ended with an error before its first round", flush=True)
                continue
            lines[contestant.name] = line
        yield lines
    finally:
        for line in lines.values():
            with suppress(BrokenPipeError):
                line.send(False)
        for process in processes:
            process.join(60)


def contestants_on(device: str, *, ways: bool) -> list[Contestant]:
    """Choose who takes part: twil beside its peer, or on a CPU beside its own other ways."""
    if device == "cpu":
        auto = "bf16" if any(cpu_flags()[flag] for flag in ("avx512_bf16", "amx_bf16")) else "fp32"
        if ways:
            others: list[dict[str, Any]] = [{"packed": True}, {"packed": False}, {"compile": True}]
            return [Contestant("twil", "TWilBERT base", auto, way) for way in others]
        chosen = [Contestant("Trainer", "BERT 6×768", precision) for precision in ("fp32", "bf16")]
        for shape in ("BERT 6×768", "TWilBERT base"):
            chosen += [Contestant("twil", shape, precision) for precision in dict.fromkeys(("fp32", auto))]
        return chosen
    chosen = [Contestant("Trainer", "BERT 6×768", "bf16"), Contestant("twil", "BERT 6×768", "bf16", GPU)]
    ways = [{"packed": packed, "compile": compiled} for packed in (True, False) for compiled in (False, True)]
    chosen += [Contestant("twil", "TWilBERT base", "bf16", GPU | way) for way in ways]
    chosen += [Contestant("twil", "TWilBERT large", "bf16", GPU | way) for way in ways if way["packed"]]
    return chosen


def make_corpus(data: Path, work: Path, tokens: int) -> Path:
    """Make the vocabulary and the corpus of all pairs in the work folder, where they are not there yet."""
    files = sorted(data.glob("pairs_*/train.tsv"))
    tokenizer, corpus = work / f"tokenizer-{tokens}.json", work / f"corpus-{tokens}"
    if not tokenizer.exists():
        print(f"learning {tokens:,} tokens", flush=True)
        save_tokenizer(train_vocabulary(texts_of(files), size=tokens, sample=100_000).tokenizer, tokenizer)
    if not corpus.exists():
        print("making the corpus", flush=True)
        for _ in build_corpus(files, corpus, tokenizer, CorpusOptions(dev=0.0)):
            pass
    return corpus


def summarise(
    contestants: Sequence[Contestant], measured: dict[str, Any], work: dict[str, float]
) -> list[Row]:
    """Make a row of each contestant that finished."""
    rates = {contestant.name: measured["rates"][contestant.name] for contestant in contestants}
    peers = [
        contestant for contestant in contestants if contestant.way == "Trainer" and rates[contestant.name]
    ]
    fastest = max(peers, key=lambda peer: statistics.median(rates[peer.name]), default=None)
    rows = []
    for contestant in contestants:
        own = rates[contestant.name]
        if not own:
            continue
        precision = "fp32" if contestant.precision == "fp32" else "bf16"
        same = next((peer for peer in peers if peer.precision == contestant.precision), None)
        rows.append(
            Row(
                name=contestant.name,
                tokens_per_second=statistics.median(own),
                lowest=min(own),
                highest=max(own),
                ratio_same=ratio(own, rates[same.name]) if same else None,
                ratio_fastest=ratio(own, rates[fastest.name]) if fastest else None,
                flops=statistics.median(own) * work[contestant.shape],
                share=statistics.median(own) * work[contestant.shape] / max(measured["products"][precision]),
            )
        )
    return rows


def ratio(own: Sequence[float], other: Sequence[float]) -> float:
    """Return the median over the rounds of how much faster one is than the other."""
    return statistics.median(one / two for one, two in zip(own, other, strict=False))


def render(results: dict[str, Any]) -> str:
    """Lay the results out as Markdown."""

    def times(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f} ×"

    heads = ["", "tokens/s", "lowest – highest", "Trainer, same precision", "Trainer, its fastest"]
    lines = [[*heads, "GFLOP/s", "of the matrix product"]]
    lines.append(["---"] * len(lines[0]))
    for row in results["rows"]:
        span = f"{row['lowest']:,.0f} – {row['highest']:,.0f}"
        ratios = [times(row["ratio_same"]), times(row["ratio_fastest"])]
        speed = [f"{row['flops'] / 1e9:,.0f}", f"{row['share']:.0%}"]
        lines.append([row["name"], f"{row['tokens_per_second']:,.0f}", span, *ratios, *speed])
    products = ", ".join(f"{name} {value / 1e9:,.0f}" for name, value in results["products"].items())
    beside = any(row["name"].startswith("Trainer") for row in results["rows"])
    page = PAGE.format(
        **results,
        title="Pretraining beside the transformers Trainer" if beside else "Ways of pretraining",
        length=results["mean_length"],
        tokens=results["vocabulary"],
        limits=products,
        table="\n".join(f"| {' | '.join(line)} |" for line in lines),
    )
    if results["original"]:
        page += (
            "\nTWilBERT base beside the train step of the original, measured before on 2 cores of another "
            f"CPU with pairs of 43 tokens: {', '.join(results['original'])}.\n"
        )
    return page


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the folders pairs_*")
    parser.add_argument("--work", type=Path, help="keeps vocabulary and corpus for the next run")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="take those alone whose name holds this text")
    parser.add_argument(
        "--ways", action="store_true", help="on a CPU: packed, padded and compiled twil alone"
    )
    parser.add_argument("--rows", type=int, help="of a step, a multiple of 32 [cpu: 96, cuda: 2,048]")
    parser.add_argument("--tokens", type=int, default=30_000, help="of the vocabulary")
    parser.add_argument("--output", type=Path, help="without its ending [results/pretrain or pretrain_cuda]")
    options = parser.parse_args()
    cuda = options.device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device here: run this on a machine with one, with a CUDA build")
    options.rows = options.rows or (2048 if cuda else 96)
    if options.rows % TRAINER_BATCH:
        raise SystemExit(f"--rows {options.rows} is no multiple of the Trainer's batch of {TRAINER_BATCH}")
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        results = measure(make_corpus(options.data, work, options.tokens), options)
    output = options.output or Path(__file__).parent / "results" / ("pretrain_cuda" if cuda else "pretrain")
    output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    output.with_suffix(".md").write_text(render(results), encoding="utf-8")
    print(render(results))


def measure(corpus: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run the contest and describe all of it."""
    cuda, rounds = options.device == "cuda", options.rounds
    course = Course(corpus, options.device, options.rows, warmup=15 if cuda else 1, steps=20 if cuda else 1)
    contestants = [
        one for one in contestants_on(options.device, ways=options.ways) if options.only in one.name
    ]
    # On a GPU one after another: together their memory would not fit.
    groups = [[contestant] for contestant in contestants] if cuda else [contestants]
    parts = [compete(group, course, rounds) for group in groups]
    measured = {
        "rates": {name: rates for part in parts for name, rates in part["rates"].items()},
        "products": {
            name: [value for part in parts for value in part["products"][name]] for name in ("fp32", "bf16")
        },
    }
    pairs = open_corpus(corpus).train.pairs
    assert pairs is not None
    lengths = pairs.lengths(np.arange(len(pairs))).sum(axis=1) + 3
    tokens = load_tokenizer(corpus / "tokenizer.json").get_vocab_size()
    work = {
        name: work_per_token(EncoderConfig(vocab_size=tokens, **shape), lengths)
        for name, shape in SHAPES.items()
    }
    base = [contestant for contestant in contestants if contestant.shape == "TWilBERT base"]
    speeds = {one.precision: statistics.median(measured["rates"][one.name] or [0.0]) for one in base}
    machine = torch.cuda.get_device_name() if cuda else f"{cpu_name()}, {available_cpus()} CPUs"
    return {
        "twil": __version__,
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "machine": machine,
        "rounds": rounds,
        "order": "one contestant after another" if cuda else "interleaved",
        "steps": course.steps,
        "rows_of_a_step": course.rows,
        "vocabulary": tokens,
        "mean_length": float(lengths.mean()),
        "flop_per_token": work,
        "products": {name: max(values) for name, values in measured["products"].items()},
        "rows": [asdict(row) for row in summarise(contestants, measured, work)],
        "original": {}
        if cuda or options.ways
        else {
            f"in {precision} {speed / rate:.1f} × {name} ({rate} tokens/s)": speed / rate
            for precision, speed in speeds.items()
            for name, rate in ORIGINAL.items()
        },
        "measured": measured,
    }


if __name__ == "__main__":
    main()
