"""Measure labelling tweets beside everything else that labels them, in one run of interleaved rounds.

    python benchmarks/predict.py --data FOLDER --work FOLDER [--rounds 3] [--rows 320] [--file-rows 20000]

Two classifiers are fine-tuned first, so that kept labels mean something: BERT's shape (6 layers, 12 heads of
64) and TWilBERT base (6 heads of 64), both of hidden size 768 and with a vocabulary of 30,002 tokens, on
cic_es. Peers are installed in environments of their own in the work folder (optimum in another than the rest,
since it wants an older transformers), which the next run uses again, as it does models and conversions.
`labelling_peers.py` holds the ways themselves.

Steady speed: every way is a process that holds its model, and labels the same rows when its turn comes, from
texts to labels. End to end: a process from its start to its end, with the file written; `twil predict` for
twil. Labels are held to those of twil in fp32 on the test file, none of which was trained on.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from labelling_peers import MAX_LENGTH, read_labels, read_rows
from peer_processes import ask, make_environments, python_of, ratio, run, serving, versions

from twil.core.machine import available_cpus, cpu_name
from twil.core.version import __version__
from twil.text.tokenizer import encode, load_tokenizer

PEERS = Path(__file__).with_name("labelling_peers.py")
TASK = "cic_es"
TOKENS = 30_002
HEADS = {"bert": 12, "twilbert": 6}
TITLES = {"bert": "BERT 6×768", "twilbert": "TWilBERT base"}
TRAINING = (
    *("--pooling", "cls", "--lr", "1e-4", "--epochs", "4"),
    *("--set", "train.warmup=0.1", "--set", "train.precision=auto"),
)
ENVIRONMENTS = {
    "peers": (
        "torch==2.13.0",
        "transformers==5.23.0",
        "onnxruntime",
        "onnx",
        "openvino",
        "nncf",
        "ctranslate2",
    ),
    "optimum": ("torch==2.13.0", "optimum-onnx", "onnxruntime"),
}
SHOWN_PACKAGES = ("transformers", "optimum-onnx", "onnxruntime", "openvino", "nncf", "ctranslate2")
LATENCY_TEXTS = 60
SHORT_ROUNDS = {1: 3, 1000: 1}
"""How often a file of so many rows is labelled end to end."""
PAGE = """# Labelling tweets beside other tools

Written by `benchmarks/predict.py`, which says what is counted: twil {twil}, {peers}; {machine}.

Tweets of {length:.0f} tokens on average; steady speed in {rounds} interleaved rounds of {rows} tweets.
Medians; ratios are medians of the rounds' ratios to the first line. Fastest matrix products, GFLOP/s:
fp32 {fp32:,.0f}, int8 {int8:,.0f}; a way's share of them counts the work that twil's graph needs. Labels
kept are those of twil in fp32, macro-F1 is in points; both on the {test_rows:,} rows of a test file.

{parts}"""

PART = """## {title}

{steady}

End to end, from the start of a process to the file written, and its largest peak of memory:

{files}

One tweet at a time, in a process that is warm:

{latency}
"""


@dataclass(frozen=True)
class Way:
    """A way to label.

    Attributes:
        title: As the table calls it.
        name: In `labelling_peers.WAYS`.
        folder: What it loads.
        environment: Where it runs: one of `ENVIRONMENTS`, or `own`.
        precision: Of its matrix products.
        whole: Whether it labels the whole large file end to end; slow ways would take half an hour.
    """

    title: str
    name: str
    folder: Path
    environment: str
    precision: str = "fp32"
    whole: bool = True

    def python(self, work: Path) -> Path:
        return Path(sys.executable) if self.environment == "own" else python_of(work, self.environment)

    def serve(self, work: Path) -> list[object]:
        """Give the command that waits for texts."""
        return [self.python(work), PEERS, "serve", self.name, self.folder]


@dataclass
class Measured:
    """What came of a way."""

    title: str
    precision: str
    rates: list[float] = field(default_factory=list)
    memory: int = 0
    test_labels: list[str] = field(default_factory=list)
    file_seconds: dict[int, list[float]] = field(default_factory=dict)
    file_memory: dict[int, int] = field(default_factory=dict)


def twil(*arguments: object) -> None:
    run(sys.executable, "-m", "twil", *arguments)


def make_models(data: Path, work: Path) -> None:
    """Fine-tune the classifiers, export them, and convert the first for the peers."""
    tweets, task = data / "tweets_unlabelled_es" / "tweets.tsv", data / TASK
    tokenizer = work / "tokenizer.json"
    if not tokenizer.exists():
        twil("vocab", tweets, "--size", TOKENS, "-o", tokenizer)
    for name, heads in HEADS.items():
        model = work / name
        if not model.exists():
            start = ("--init", "base", "--set", f"model.encoder.n_heads={heads}", "--tokenizer", tokenizer)
            twil("finetune", task / "train.tsv", "--dev", task / "dev.tsv", *start, *TRAINING, "-o", model)
        for kind, options in {
            "plain": (),
            "fp32": ("--optimize",),
            "int8": (
                *("--optimize", "--precision", "int8"),
                *("--calibration", task / "train.tsv", "--eval", task / "dev.tsv"),
            ),
        }.items():
            if not (work / f"{name}-{kind}").exists():
                twil("export", model, "--onnx", *options, "-o", work / f"{name}-{kind}")
    convert(work, "onnx", "bert", "bert-onnx")
    convert(work, "ctranslate2", "bert", "bert-ctranslate2")
    convert(work, "openvino-int8", "bert-onnx", "bert-openvino-int8", task / "train.tsv")
    for name in HEADS:  # what peers make of twil's own graph
        graph = work / f"{name}-graph"
        if not graph.exists():
            graph.mkdir()
            (graph / "model.onnx").write_bytes((work / f"{name}-plain" / "model.onnx").read_bytes())
            for file in ("config.json", "tokenizer.json"):
                (graph / file).write_bytes((work / name / file).read_bytes())
        convert(work, "openvino-int8", f"{name}-graph", f"{name}-graph-int8", task / "train.tsv")


def convert(work: Path, way: str, source: str, target: str, *texts: Path) -> None:
    if not (work / target).exists():
        run(python_of(work, "peers"), PEERS, "make", way, work / source, work / target, *texts)


def ways_of(model: str, work: Path) -> list[Way]:
    """List who takes part; the first is what the others are compared with."""
    bert = [
        Way("transformers pipeline, batch 32", "pipeline-32", work / "bert", "peers", whole=False),
        Way("transformers pipeline, batch 1", "pipeline-1", work / "bert", "peers", whole=False),
        Way("optimum ONNX pipeline, batch 32", "optimum", work / "bert-onnx", "optimum", whole=False),
        Way("ONNX Runtime, file order", "onnxruntime", work / "bert-onnx", "peers", whole=False),
        Way("OpenVINO, sorted", "openvino", work / "bert-onnx", "peers", whole=False),
        Way("OpenVINO, sorted", "openvino", work / "bert-openvino-int8", "peers", "int8"),
        Way("CTranslate2, sorted", "ctranslate2", work / "bert-ctranslate2", "peers", "int8"),
    ]
    twilbert = [
        Way("twil's model in torch, file order", "torch", work / "twilbert", "own", whole=False),
        Way(
            "ONNX Runtime on twil's graph, file order",
            "onnxruntime",
            work / "twilbert-graph",
            "peers",
            whole=False,
        ),
    ]
    graph = work / f"{model}-graph"
    return [
        *(bert if model == "bert" else twilbert),
        Way("OpenVINO on twil's graph, sorted", "openvino", graph, "peers", whole=False),
        Way(
            "OpenVINO on twil's graph, sorted",
            "openvino",
            Path(f"{graph}-int8"),
            "peers",
            "int8",
            whole=False,
        ),
        Way("twil", "twil", work / f"{model}-fp32", "own", whole=model == "bert"),
        Way("twil", "twil", work / f"{model}-int8", "own", "int8"),
    ]


def write_texts(data: Path, target: Path, rows: int) -> None:
    """Draw real tweets, the same ones each time."""
    every = read_rows(data / "tweets_unlabelled_es" / "tweets.tsv")
    chosen = np.random.default_rng(0).choice(len(every), rows, replace=False)
    lines = ["ID\tTEXT", *(f"{every[row][0]}\t{every[row][1]}" for row in chosen)]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure_steady(
    ways: Sequence[Way],
    texts: Path,
    test: Path,
    work: Path,
    rounds: int,
    rows: int,
    *,
    every_label: bool = False,
) -> list[Measured]:
    measured = [Measured(way.title, way.precision) for way in ways]
    test_rows = len(read_rows(test))
    with serving([way.serve(work) for way in ways], work / "serving.log") as processes:
        for process in processes:
            ask(process, [str(texts), 0, 64])  # shapes and caches warm
        for number in range(rounds):
            for way, process, found in zip(ways, processes, measured, strict=True):
                said = ask(process, [str(texts), number * rows, (number + 1) * rows])
                found.rates.append(rows / said["seconds"])
                found.memory = said["memory"]
                print(
                    f"round {number + 1}  {way.title}, {way.precision}: {found.rates[-1]:.1f}/s", flush=True
                )
        for way, process, found in zip(ways, processes, measured, strict=True):
            if every_label or way.precision == "int8" or way.name == "twil":
                found.test_labels = ask(process, [str(test), 0, test_rows])["labels"]
    return measured


def measure_latency(model: str, texts: Path, work: Path) -> list[dict[str, Any]]:
    """Let all ways label one text after another, in turn; p50 and p95 in ms."""
    first = ways_of(model, work)[1 if model == "bert" else 0]
    ways = [
        first,
        Way("twil", "twil-alone", work / f"{model}-fp32", "own"),
        Way("twil", "twil-alone", work / f"{model}-int8", "own", "int8"),
    ]
    times: list[list[float]] = [[] for _ in ways]
    with serving([way.serve(work) for way in ways], work / "serving.log") as processes:
        for row in range(-5, LATENCY_TEXTS):  # the first ones warm up
            for process, found in zip(processes, times, strict=True):
                seconds = ask(process, [str(texts), max(row, 0), max(row, 0) + 1])["seconds"]
                if row >= 0:
                    found.append(1000 * seconds)
    return [
        {
            "title": way.title,
            "precision": way.precision,
            "p50": statistics.median(found),
            "p95": float(np.percentile(found, 95)),
            "ratio": statistics.median(times[0]) / statistics.median(found),
        }
        for way, found in zip(ways, times, strict=True)
    ]


def measure_files(
    ways: Sequence[Way], measured: Sequence[Measured], texts: Path, work: Path, rows: int
) -> None:
    """Label files end to end, all ways in turn."""
    every = texts.read_text(encoding="utf-8").split("\n")
    for count, rounds in {**SHORT_ROUNDS, rows: 1}.items():
        source, target = work / f"texts-{count}.tsv", work / "labelled.tsv"
        source.write_text("\n".join(every[: count + 1]) + "\n", encoding="utf-8")
        for _ in range(rounds):
            for way, found in zip(ways, measured, strict=True):
                if count == rows and not way.whole:
                    continue
                seconds, memory = time_process(command_of(way, source, target, work))
                written = target.read_text(encoding="utf-8").splitlines()
                assert len(written) == count + 1, f"{way.title} lost rows"
                target.unlink()
                found.file_seconds.setdefault(count, []).append(seconds)
                found.file_memory[count] = memory
                print(f"{count:,} rows  {way.title}, {way.precision}: {seconds:.2f} s", flush=True)


def command_of(way: Way, source: Path, target: Path, work: Path) -> list[object]:
    if way.name == "twil":
        program = Path(sys.executable).with_name("twil")
        return [program, "predict", source, "--model", way.folder, "--provider", "cpu", "-o", target]
    return [way.python(work), PEERS, "file", way.name, way.folder, source, target]


def time_process(command: Sequence[object]) -> tuple[float, int]:
    """Return seconds from start to exit, and the peak of memory that the process tells, in bytes."""
    begin = time.perf_counter()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    if said := re.search(r"peak memory ([\d,]+) MiB", done.stderr):  # twil's
        return seconds, int(said[1].replace(",", "")) * 2**20
    return seconds, int(done.stdout.split()[-1])


def product_rates() -> dict[str, float]:
    """Measure ONNX Runtime's matrix products on all CPUs, the best of several, in FLOP/s."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rows, inner, columns = 512, 768, 3072
    weights = np.random.default_rng(0).integers(-127, 127, (inner, columns)).astype(np.int8)
    best = {}
    for name, operator, left, right, out in (
        ("fp32", "MatMul", np.float32, weights.astype(np.float32), TensorProto.FLOAT),
        ("int8", "MatMulInteger", np.uint8, weights, TensorProto.INT32),
    ):
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(left))
        graph = helper.make_graph(
            [helper.make_node(operator, ["x", "w"], ["y"])],
            name,
            [helper.make_tensor_value_info("x", kind, [rows, inner])],
            [helper.make_tensor_value_info("y", out, [rows, columns])],
            [numpy_helper.from_array(right, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cpus()
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        feed = {"x": np.ones((rows, inner), dtype=left)}
        seconds = []
        for _ in range(60):
            begin = time.perf_counter()
            session.run(None, feed)
            seconds.append(time.perf_counter() - begin)
        best[name] = 2 * rows * inner * columns / min(seconds)
    return best


def work_per_text(model: Path, lengths: np.ndarray) -> float:
    """Count the operations that a text of these lengths needs, the last layer for [CLS] alone."""
    shape = json.loads((model / "config.json").read_text(encoding="utf-8"))["model"]["encoder"]
    hidden, layers = shape["hidden_size"], shape["n_layers"]
    width = shape["n_heads"] * shape["head_size"]
    feed_forward = 2 * hidden * (shape["intermediate_size"] or 4 * hidden)
    tokens, pairs = lengths.mean(), (lengths.astype(np.float64) ** 2).mean()
    full = tokens * (4 * hidden * width + feed_forward) + 2 * pairs * width
    last = tokens * (2 * hidden * width + 2 * width) + 2 * hidden * width + feed_forward
    return float(2 * ((layers - 1) * full + last))


def describe(
    ways: Sequence[Way], measured: Sequence[Measured], flop: float, rates: dict[str, float], test: Path
) -> list[dict[str, Any]]:
    """Make a line of each way: its medians, ratios, shares, and what became of the labels."""
    from sklearn.metrics import f1_score

    first = measured[0]
    reference = next(
        found.test_labels
        for way, found in zip(ways, measured, strict=True)
        if way.name == "twil" and way.precision == "fp32"
    )
    lines = test.read_text(encoding="utf-8").split("\n")
    place = lines[0].split("\t").index("CLASS")
    truth = [line.split("\t")[place] for line in lines[1:] if line]
    rows = []
    for found in measured:
        labels = found.test_labels
        kept = sum(one == other for one, other in zip(labels, reference, strict=True)) if labels else None
        rows.append(
            {
                **{key: value for key, value in asdict(found).items() if key != "test_labels"},
                "rate": statistics.median(found.rates),
                "ratio": ratio(found.rates, first.rates),
                "share": statistics.median(found.rates) * flop / rates[found.precision],
                "kept": None if kept is None else 100 * kept / len(reference),
                "macro_f1": 100 * f1_score(truth, labels, average="macro") if labels else None,
                "file_ratios": {
                    count: statistics.median(first.file_seconds[count]) / statistics.median(seconds)
                    for count, seconds in found.file_seconds.items()
                    if count in first.file_seconds
                },
            }
        )
    return rows


def render(results: dict[str, Any]) -> str:
    """Lay the results out as Markdown."""
    products = {name: value / 1e9 for name, value in results["products"].items()}
    parts = [
        PART.format(
            title=TITLES[model],
            steady=steady_table(part["rows"]),
            files=files_table(part["rows"]),
            latency=latency_table(part["latency"]),
        )
        for model, part in results["models"].items()
    ]
    return PAGE.format(**results, **products, parts="\n".join(parts))


def steady_table(rows: Sequence[dict[str, Any]]) -> str:
    heads = ["", "", "tweets/s", "lowest – highest", "ratio", "of the matrix product"]
    lines = [[*heads, "labels kept", "macro-F1", "memory, MiB"]]
    lines += [
        [
            *(row["title"], row["precision"], f"{row['rate']:.1f}"),
            f"{min(row['rates']):.1f} – {max(row['rates']):.1f}",
            *(f"{row['ratio']:.2f} ×", f"{row['share']:.0%}"),
            "–" if row["kept"] is None else f"{row['kept']:.2f}%",
            "–" if row["macro_f1"] is None else f"{row['macro_f1']:.2f}",
            f"{row['memory'] / 2**20:,.0f}",
        ]
        for row in rows
    ]
    return lay_out(lines)


def files_table(rows: Sequence[dict[str, Any]]) -> str:
    counts = [int(count) for count in rows[-1]["file_seconds"]]
    lines = [["", "", *(f"{count:,} rows" for count in counts), "memory, MiB"]]
    for row in rows:
        # After a way through JSON, numbers of rows are texts.
        seconds, ratios = (
            {int(count): value for count, value in row[key].items()}
            for key in ("file_seconds", "file_ratios")
        )
        cells = [
            f"{statistics.median(seconds[count]):.2f} s"
            + (f", {ratios[count]:.1f} ×" if count in ratios else "")
            if count in seconds
            else "–"
            for count in counts
        ]
        memory = max(row["file_memory"].values())
        lines.append([row["title"], row["precision"], *cells, f"{memory / 2**20:,.0f}"])
    return lay_out(lines)


def latency_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [["", "", "p50, ms", "p95, ms", "ratio"]]
    for row in rows:
        times = [f"{row[key]:.1f}" for key in ("p50", "p95")]
        lines.append([row["title"], row["precision"], *times, f"{row['ratio']:.1f} ×"])
    return lay_out(lines)


def lay_out(lines: Sequence[Sequence[str]]) -> str:
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help=f"folder with {TASK} and tweets_unlabelled_es"
    )
    parser.add_argument("--work", type=Path, required=True, help="keeps environments, models and conversions")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=320, help="tweets of a round")
    parser.add_argument("--file-rows", type=int, default=20_000, help="of the large file")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "predict")
    options = parser.parse_args()
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    make_environments(work, ENVIRONMENTS)
    make_models(options.data, work)
    texts, test = work / "texts.tsv", options.data / TASK / "test.tsv"
    write_texts(options.data, texts, max(options.file_rows, options.rounds * options.rows))
    tokenizer = load_tokenizer(work / "tokenizer.json")
    tokenizer.enable_truncation(MAX_LENGTH)
    tokens = encode(tokenizer, [text for _, text in read_rows(texts)]).input_ids
    lengths = np.array([len(row) for row in tokens])
    products = product_rates()
    models: dict[str, Any] = {}
    for model in HEADS:
        ways = ways_of(model, work)
        measured = measure_steady(ways, texts, test, work, options.rounds, options.rows)
        measure_files(ways, measured, texts, work, options.file_rows)
        products = {name: max(rate, products[name]) for name, rate in product_rates().items()}
        flop = work_per_text(work / model, lengths)
        models[model] = {
            "flop_per_text": flop,
            "labels": read_labels(work / model),
            "latency": measure_latency(model, texts, work),
            "rows": describe(ways, measured, flop, products, test),
        }
    results = {
        "twil": __version__,
        "onnxruntime": version("onnxruntime"),
        "peers": versions(work, ENVIRONMENTS, SHOWN_PACKAGES),
        "machine": f"{cpu_name()}, {available_cpus()} CPUs",
        "length": float(lengths.mean()),
        "rounds": options.rounds,
        "rows": options.rows,
        "test_rows": len(read_rows(test)),
        "products": products,
        "models": models,
    }
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(render(results), encoding="utf-8")
    print(render(results))


if __name__ == "__main__":
    main()
