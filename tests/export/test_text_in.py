"""Graphs that take texts: the tokens and the answers of the bundle's own, and refused where they are not."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from typer.testing import CliRunner

from twil.bundle.bundle import INPUTS, TOKENIZER, Bundle, Manifest, open_bundle
from twil.bundle.session import Session
from twil.cli.main import make_app
from twil.config.model import ClassifierConfig, EncoderConfig, ModelConfig
from twil.core.errors import ConfigError, ExportError
from twil.core.installation import install_command
from twil.core.task import Task
from twil.data.batching import pad_batch
from twil.exporting.bundle import export_onnx
from twil.exporting.graph import write as graph_module
from twil.exporting.int8.options import Int8Options
from twil.exporting.text_graph import vocabulary as text_tokens
from twil.exporting.text_graph.build import TEXT_GRAPH, TEXTS, TextFront
from twil.exporting.text_graph.check import ODD_TEXTS, check_text_graph
from twil.exporting.text_graph.steps import replacements
from twil.inference.predictor import Predictor
from twil.model import folder as model_folders
from twil.model.twilbert import TWilBERT
from twil.text.normalization import MENTION
from twil.text.tokenizer import PAD_ID, encode, load_tokenizer, save_tokenizer
from twil.text.vocabulary import texts_of, train_vocabulary

extensions = pytest.importorskip(
    "onnxruntime_extensions", reason="the extra text-in (onnxruntime-extensions) is not installed"
)
import onnxruntime  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TASK = Task("class", ("negative", "neutral", "positive"))
LONGEST = 24

ATOMS = (
    *(
        " ",
        "  ",
        "\n",
        "\u00a0",
        "\u200b",
        "[MASK]",
        "[MASK",
        "[SEP]",
        "\u2581",
        "\x01",
        "\x02",
        "_",
        "#",
        ".",
    ),
    *(
        "@",
        "@ana",
        "https://",
        "http:/",
        "/",
        "www.",
        "Www.",
        "t.co/",
        "pic.twitter.com/",
        "user",
        "url",
        "RT",
    ),
    *(
        "&lt;",
        "&amp;",
        "&nbsp;",
        "&#39;",
        "&#039;",
        "lt;",
        "hola",
        "a",
        "n",
        "ñ",
        "n\u0303",
        "\u0301",
        "1",
        "½",
    ),
    *("A\u0301", "É", "wWw.", "HTTPS://", "&LT;", "Pic.Twitter.com/", "T.CO/", "HOLA", "\u212a", "Σ", "ſ"),
    *("😀", "❤\ufe0f", "\u200d", "日本", "\u1112\u1161\u11ab", "ß", "İ", "…", "▅", "(", ")"),
)


def make_vocabulary(**options: Any) -> Tokenizer:
    texts = texts_of([EXAMPLES / "tweets_train.tsv"])
    return train_vocabulary(texts, size=600, max_length=LONGEST, **options).tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_vocabulary()


def write_model(
    folder: Path, tokenizer: Tokenizer, task: Task | None = TASK, *, seed: int = 0, **heads: Any
) -> Path:
    torch.manual_seed(seed)
    encoder = EncoderConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        n_layers=2,
        n_heads=2,
        head_size=6,
        max_positions=LONGEST,
    )
    classifier = ClassifierConfig(pooling="max") if task else None
    model = TWilBERT(ModelConfig(encoder=encoder, classifier=classifier, task=task, **heads))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(4)  # so that outputs depend on the tokens by far more than the tolerance
    model_folders.save(folder, model.eval(), tokenizer, {})
    return folder


@pytest.fixture(scope="module")
def bundle(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("text-in")
    export_onnx(write_model(folder / "model", tokenizer), folder / "bundle", text_in=True)
    return open_bundle(folder / "bundle")


def open_texts(graph: Path | bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(extensions.get_library_path())
    return onnxruntime.InferenceSession(graph if isinstance(graph, bytes) else str(graph), options)


def run(
    session: onnxruntime.InferenceSession, names: Sequence[str], texts: Sequence[str]
) -> list[np.ndarray]:
    return session.run(list(names), {TEXTS: np.array(texts, dtype=object)})


@dataclass(frozen=True)
class Reader:
    tokenizer: Tokenizer
    session: onnxruntime.InferenceSession


KINDS: dict[str, dict[str, Any]] = {
    "unigram": {},
    "lower-case unigram": {"lowercase": True},
    "bpe": {"model": "bpe"},
    "lower-case bpe": {"model": "bpe", "lowercase": True},
}


@pytest.fixture(scope="module", params=KINDS)
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("reader")
    made = make_vocabulary(**KINDS[request.param])
    save_tokenizer(made, folder / TOKENIZER)
    manifest = Manifest("encoder", LONGEST, PAD_ID, "fp32", "avg", None, files={})
    front = TextFront(Bundle(folder, manifest))
    return Reader(made, open_texts(front.model()))


def check_tokens(reader: Reader, texts: Sequence[str]) -> None:
    expected = pad_batch(encode(reader.tokenizer, texts).input_ids)
    for name, found in zip(INPUTS, run(reader.session, INPUTS, texts), strict=True):
        np.testing.assert_array_equal(found, getattr(expected, name), err_msg=name)
        assert found.dtype == np.int64


@pytest.mark.parametrize("optimize", [False, True], ids=["plain", "optimised"])
@pytest.mark.parametrize("head", ["classifier", "encoder", "fill-mask"])
def test_texts_get_the_outputs_of_their_tokens(
    head: Any, optimize: bool, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    source = write_model(tmp_path / "model", tokenizer, mlm=True)
    report = export_onnx(source, tmp_path / "bundle", head=head, optimize=optimize, text_in=True)
    bundle = open_bundle(tmp_path / "bundle")
    session = open_texts(bundle.folder / TEXT_GRAPH)
    assert [(node.name, node.type, node.shape) for node in session.get_inputs()] == [
        (TEXTS, "tensor(string)", ["batch"])
    ]
    texts = ["Hoy es un [MASK] día 🎉", "", "@ana mira esto https://ejemplo.es/1 " * 20]
    batch = pad_batch(encode(load_tokenizer(bundle.tokenizer), texts).input_ids)
    assert batch.input_ids.shape == (3, LONGEST)
    expected = Session(bundle, provider="cpu").run(batch)
    for name, found in zip(expected, run(session, list(expected), texts), strict=True):
        np.testing.assert_allclose(found, expected[name], atol=1e-5)
    assert report.texts_read == len(ODD_TEXTS) + 11


def test_the_bundle_names_the_graph_and_predicts_as_without_it(bundle: Bundle, tmp_path: Path) -> None:
    assert TEXT_GRAPH in bundle.manifest.files
    assert bundle.manifest.versions["onnxruntime-extensions"] == extensions.__version__
    assert TEXT_GRAPH in (bundle.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    prediction = Predictor(bundle.folder)("qué alegría de día")
    (found,) = run(open_texts(bundle.folder / TEXT_GRAPH), ["probabilities"], ["qué alegría de día"])
    np.testing.assert_allclose(found[0], list(prediction.probabilities.values()), atol=1e-5)


def test_odd_texts_get_their_tokens_alone_and_together(reader: Reader) -> None:
    check_tokens(reader, ODD_TEXTS)
    for text in ODD_TEXTS:
        check_tokens(reader, [text])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(ATOMS), max_size=12).map("".join), min_size=1, max_size=4))
def test_any_text_gets_its_tokens(reader: Reader, texts: list[str]) -> None:
    check_tokens(reader, texts)


def test_real_tweets_get_their_tokens(reader: Reader, shared: Path) -> None:
    tweets = list(itertools.islice(texts_of([shared / "data/tweets_unlabelled_es/tweets.tsv"]), 2_000))
    check_tokens(reader, tweets)


def test_a_tokenizer_with_the_plain_expression_for_mentions_becomes_the_same_steps(
    tokenizer: Tokenizer,
) -> None:
    now = tokenizer.to_str()
    plain = now.replace(json.dumps(MENTION), json.dumps(r"(?<!\w)@+\w+"))
    assert plain != now
    assert replacements(json.loads(plain)) == replacements(json.loads(now))


def test_no_texts_give_no_rows(reader: Reader) -> None:
    assert [found.shape for found in run(reader.session, INPUTS, [])] == [(0, 2)] * 3


def test_newer_operators_and_weights_beside_the_graph_do_too(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_module, "SINGLE_FILE_LIMIT", 1_000)
    source = write_model(tmp_path / "model", tokenizer)
    export_onnx(source, tmp_path / "bundle", opset=20, text_in=True)
    files = {file.name: file.stat().st_size for file in (tmp_path / "bundle").iterdir()}
    assert files["model.onnx.data"] > 30_000  # shared by both graphs
    (found,) = run(open_texts(tmp_path / "bundle" / TEXT_GRAPH), ["probabilities"], ["hola"])
    expected = Predictor(tmp_path / "bundle")("hola").probabilities
    np.testing.assert_allclose(found[0], list(expected.values()), atol=1e-5)


def test_in_int8_the_texts_of_its_files_are_tried_too(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = write_model(tmp_path / "model", tokenizer)
    rows = [f"esto es el texto {number}\t{TASK.labels[number % 3]}\n" for number in range(30)]
    (tmp_path / "some.tsv").write_text("TEXT\tCLASS\n" + "".join(rows), encoding="utf-8")
    options = Int8Options(tmp_path / "some.tsv", tmp_path / "some.tsv")
    options = replace(options, limits=replace(options.limits, max_drop=100, min_agreement=0, max_change=1))
    report = export_onnx(source, tmp_path / "bundle", int8=options, text_in=True)
    assert report.texts_read == len(ODD_TEXTS) + 11 + 60


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda texts: make_tokenizer(LONGEST), "its added tokens are not [MASK] alone"),
        (lambda texts: train_vocabulary(texts, size=600, strip_accents=True).tokenizer, "not begin with NFC"),
    ],
    ids=["word tokens", "no accents"],
)
def test_another_tokenizer_is_refused_in_one_line_and_nothing_is_left(
    make: Any, said: str, tmp_path: Path
) -> None:
    source = write_model(tmp_path / "model", make(texts_of([EXAMPLES / "tweets_train.tsv"])))
    arguments = ["export", str(source), "--onnx", "--text-in", "-o", str(tmp_path / "bundle")]
    done = CliRunner().invoke(make_app([]), arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.splitlines()[-1].startswith("twil: error: this model's tokenizer cannot be built into")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_a_text_that_is_read_otherwise_is_named_and_no_bundle_is_left(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_tokens, "_rules", lambda lowercase: {"o\u0301": "ó"})  # composes little
    source = write_model(tmp_path / "model", tokenizer)
    with pytest.raises(ExportError, match=r"the text 'cafe\\u0301 con .* becomes \[CLS\] .*é.* and \[CLS\] "):
        export_onnx(source, tmp_path / "bundle", text_in=True)
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_texts_of_the_files_are_held_to_it_as_well(bundle: Bundle) -> None:
    graph, front = bundle.folder / TEXT_GRAPH, TextFront(bundle)
    assert check_text_graph(bundle, graph, front, ["hola"]) == len(ODD_TEXTS) + 12
    with pytest.raises(ExportError, match=r"the text 'uno\\x00dos' becomes .* Export without --text-in"):
        check_text_graph(bundle, graph, front, ["hola", "uno\0dos"])


def test_other_answers_are_refused(bundle: Bundle, tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = write_model(tmp_path / "model", tokenizer, seed=1)
    export_onnx(source, tmp_path / "bundle", text_in=True)
    with pytest.raises(ExportError, match=r"its logits differ from those of the bundle's graph by \d"):
        check_text_graph(bundle, tmp_path / "bundle" / TEXT_GRAPH, TextFront(bundle))


def test_pairs_and_a_missing_extra_are_said_before_any_work(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = write_model(tmp_path / "pairs", tokenizer, Task("class", ("a", "b"), pair=True))
    with pytest.raises(ConfigError, match="for single texts, and this model reads pairs: leave it out"):
        export_onnx(pairs, tmp_path / "bundle", text_in=True)
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", None)
    arguments = ["export", str(pairs), "--onnx", "--text-in", "-o", str(tmp_path / "bundle")]
    done = CliRunner().invoke(make_app([]), arguments)
    assert done.exit_code == 1
    assert f"--text-in needs the extra 'text-in': {install_command('text-in')}" in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_the_command_writes_it_and_the_program_of_the_guide_runs_it(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    source = write_model(tmp_path / "model", tokenizer)
    arguments = ["export", str(source), "--onnx", "--text-in", "-o", str(tmp_path / "bundle")]
    done = CliRunner().invoke(make_app([]), arguments)
    assert (done.exit_code, done.stdout) == (0, "")
    assert (
        f"{TEXT_GRAPH} takes texts: it cuts {len(ODD_TEXTS) + 11} texts as tokenizer.json does" in done.stderr
    )
    guide = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^    (import numpy, .*\n(?:    .+\n)+)", guide, flags=re.MULTILINE)
    answer = subprocess.run(
        [sys.executable, "-c", program.replace("\n    ", "\n")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.count(".") >= 6  # two rows of three probabilities
