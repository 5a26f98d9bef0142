"""What a model's authors did to texts goes with the model, the same in training and in serving."""

from __future__ import annotations

import ast
import json
import random
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import POLARITY, make_tokenizer, write_bundle, write_manifest
from conftest import EXAMPLES, write_rows
from hub_models import library, make_hub_folder
from tokenizers import Tokenizer, normalizers
from tuning import twil_command

import twil
from twil.bundle.bundle import FORMAT, MANIFEST, PREPARED_FORMAT, open_bundle
from twil.config.model import EncoderConfig, ModelConfig
from twil.config.training import finetune_config
from twil.core.errors import ConfigError, DataError, MissingExtraError, ModelError, ModelWarning
from twil.core.installation import install_command
from twil.core.storage import write_json
from twil.data.corpus.build import CorpusOptions, build_corpus
from twil.data.corpus.corpus import open_corpus
from twil.data.labelled import read_labelled
from twil.data.survey.lengths import LengthTally, TokenCounter
from twil.evaluation.evaluate import evaluate
from twil.evaluation.pretrained.inspection import inspect_row
from twil.evaluation.pretrained.intrinsic import score_pretrained
from twil.evaluation.pretrained.probing import fill_masks, open_probe
from twil.exporting.bundle import export_onnx
from twil.inference.embedder import Embedder
from twil.inference.predictor import Predictor
from twil.model.folder import describe, load_tokens, load_with_tokenizer, read_run, save, weights_hash
from twil.model.twilbert import TWilBERT
from twil.text.cloze import encode_masked
from twil.text.preparation import (
    NONE,
    PREPARATIONS,
    _python_step,
    find_preparation,
    put_preparation,
)
from twil.text.tokenizer import encode, load_tokenizer, save_tokenizer, tokens_hash
from twil.train.finetune import finetune_events
from twil.train.objectives.classification import compute_logits, encode_rows

emoji = pytest.importorskip("emoji", reason="the extra 'preparations' is not installed")

KNOWN = json.loads((Path(__file__).parents[1] / "data" / "preparations.json").read_text(encoding="utf-8"))
"""By name, texts and what the authors' own functions make of them."""
TWEETS = [text for text, _ in KNOWN["robertuito"] if text.strip() and text.isprintable()]
RUNS = (
    "a",
    "1",
    "@",
    "#a",
    "a.",
    "<a",
    "&a",
    "|a",
    "ja",
    "áa",
    "http://a(",
    "http://.,",
    "👨\u200d",
    "🏽\u200d",
)


def prepared_by(name: str) -> Callable[[str], str]:
    """Give a preparation as a function of a text."""
    known = PREPARATIONS[name]
    return known.make_step() if known.make_step else normalizers.Sequence(known.make_steps()).normalize_str


@pytest.mark.parametrize(
    ("name", "text", "expected"), [(name, *pair) for name, pairs in KNOWN.items() for pair in pairs]
)
def test_a_text_becomes_what_the_authors_made_of_it(name: str, text: str, expected: str) -> None:
    assert prepared_by(name)(text) == expected


def test_emoji_have_the_names_that_their_library_gives_them_in_any_sequence() -> None:
    names = prepared_by("robertuito")._emoji  # type: ignore[attr-defined]
    drawn = random.Random(3)
    known = list(emoji.EMOJI_DATA)
    odd = ["\u200d", "\ufe0f", "\ufe0e", "🏽", "🦰", "🏴", "🇪", "1", "#", "a", "\U000e0067", "👩", "❤"]
    for _ in range(3000):
        text = "".join(
            drawn.choice(odd if drawn.random() < 0.6 else known) for _ in range(drawn.randint(1, 9))
        )
        theirs = emoji.demojize(text, language="es", delimiters=("|", "|"))
        assert names.replace(text) == theirs, ascii(text)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("unit", RUNS)
def test_time_grows_with_a_text_and_not_with_its_square(name: str, unit: str) -> None:
    step = prepared_by(name)

    def seconds(units: int) -> float:
        begin = time.process_time()
        step(unit * units)
        return time.process_time() - begin

    assert seconds(6_000) < max(0.1, 10 * min(seconds(1_500) for _ in range(2)))  # the square is 16 times


def test_an_entity_of_half_a_character_becomes_one_that_is_damaged() -> None:
    assert prepared_by("bertweet")("&#55357;&#56832; &#0; &#x110000; &#150; &#-5;") == "\ufffd \ufffd \x00 –"


class TestTokenizers:
    @pytest.fixture(params=KNOWN)
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def tokenizer(self, name: str) -> Tokenizer:
        made = make_tokenizer(64)
        put_preparation(made, name)
        return made

    def test_ids_are_those_of_the_prepared_text(self, tokenizer: Tokenizer, name: str) -> None:
        step, plain = prepared_by(name), make_tokenizer(64)
        assert encode(tokenizer, TWEETS).input_ids == encode(plain, [*map(step, TWEETS)]).input_ids
        pairs = [*zip(TWEETS, reversed(TWEETS), strict=True)]
        expected = encode(plain, [(step(one), step(other)) for one, other in pairs])
        found = encode(tokenizer, pairs)
        assert (found.input_ids, found.segment_ids) == (expected.input_ids, expected.segment_ids)
        assert found.truncated.tolist() == expected.truncated.tolist()

    def test_long_pairs_are_prepared_too(self, tokenizer: Tokenizer, name: str) -> None:
        step, pair = prepared_by(name), (" ".join(TWEETS), " ".join(TWEETS[::-1]))
        expected = encode(make_tokenizer(64), [(step(pair[0]), step(pair[1]))])
        assert encode(tokenizer, [pair]).input_ids == expected.input_ids

    def test_the_file_carries_it(self, tokenizer: Tokenizer, name: str, tmp_path: Path) -> None:
        save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
        read = load_tokenizer(tmp_path / "tokenizer.json")
        assert find_preparation(read, source="it") is PREPARATIONS[name]
        assert encode(read, TWEETS).input_ids == encode(tokenizer, TWEETS).input_ids
        assert tokens_hash(read) != tokens_hash(make_tokenizer(64))

    def test_what_is_no_text_is_named(self, tokenizer: Tokenizer) -> None:
        for wrong, said in ((3, "text 2 is no text"), ("hola \ud83d", "text 2 holds half a character")):
            with pytest.raises(DataError, match=said):
                encode(tokenizer, ["hola", wrong])  # type: ignore[list-item]

    def test_unknown_parts_are_those_of_the_prepared_text(self, tmp_path: Path) -> None:
        tokenizer = make_tokenizer(64)
        put_preparation(tokenizer, "robertuito")
        tally = LengthTally(TokenCounter(tokenizer))
        tally.add(["@una_vecina_lejana ya 漢 #ViveAquí"], None)
        assert tally.lengths().unknown_parts == {"漢": 1}


def test_blanks_around_words_matter_and_other_white_space_does_not() -> None:
    drawn = random.Random(5)
    parts = [
        "@",
        "@ana",
        "http",
        "https://t.co/x",
        " ",
        "  ",
        "\n",
        "\t",
        "\u00a0",
        "a",
        ".",
        "@@",
        "👍🏽",
        "HTTP",
    ]
    step = prepared_by("cardiffnlp")
    for _ in range(2000):
        text = "".join(drawn.choices(parts, k=drawn.randint(0, 9)))
        words = ["@user" if word[:1] == "@" and len(word) > 1 else word for word in text.split(" ")]
        assert step(text) == " ".join("http" if word.startswith("http") else word for word in words), ascii(
            text
        )


def test_texts_become_ids_in_one_place_alone() -> None:
    """Nothing else calls the tokenizers library, so that no command can leave a preparation out."""
    root = Path(twil.__file__).parent
    allowed = {
        "text/tokenizer.py",  # the place
        "text/special.py",  # empty texts
        "text/cloze.py",  # a mask alone
        "text/vocabulary.py",  # words of a vocabulary that is being made
        "model/hub/tokens.py",  # whether it can cut a text at all
        "data/survey/lengths.py",  # prepared texts again, to see what of them is unknown
    }
    calling = set()
    for folder, name in ((root, ""), (root.parent / "cli", "cli/"), (root.parent / "export", "export/")):
        for file in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                whose = ast.unparse(node.func.value)
                if node.func.attr.startswith("encode_batch") or (
                    node.func.attr == "encode" and whose.endswith("tokenizer")
                ):
                    calling.add(name + file.relative_to(folder).as_posix())
    assert calling <= allowed


class TestBundles:
    def test_answers_are_those_to_the_prepared_texts(self, tmp_path: Path) -> None:
        ready = [*map(prepared_by("robertuito"), TWEETS)]
        folders = write_bundle(tmp_path / "plain"), write_bundle(tmp_path / "own", preparation="robertuito")
        with Predictor(folders[0]) as plain, Predictor(folders[1]) as own:
            assert own(TWEETS) == plain(ready)
            assert own(TWEETS) != plain(TWEETS)

    def test_vectors_are_those_of_the_prepared_texts(self, tmp_path: Path) -> None:
        ready = [*map(prepared_by("bertweet"), TWEETS)]
        plain = write_bundle(tmp_path / "plain", None)
        own = write_bundle(tmp_path / "own", None, preparation="bertweet")
        with Embedder(plain) as one, Embedder(own) as other:
            assert np.array_equal(other(TWEETS), one(ready))
            assert [tokens.tokens for tokens in other.tokens(TWEETS)] == [
                tokens.tokens for tokens in one.tokens(ready)
            ]

    def test_one_without_a_preparation_is_written_as_ever(self, tmp_path: Path) -> None:
        folder = write_bundle(tmp_path / "bundle")
        value = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        assert value["format"] == FORMAT == 1
        assert "preparation" not in value
        assert open_bundle(folder).manifest.preparation == {}

    def test_one_with_a_preparation_is_of_a_format_that_an_older_twil_refuses(self, tmp_path: Path) -> None:
        folder = write_bundle(tmp_path / "bundle", preparation="cardiffnlp")
        value = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        assert value["format"] == PREPARED_FORMAT == 2
        assert value["preparation"] == {"name": "cardiffnlp", "version": 1}
        assert open_bundle(folder).manifest.preparation == value["preparation"]

    @pytest.mark.parametrize(("tokenizer", "manifest"), [("robertuito", NONE), (NONE, "bertweet")])
    def test_a_manifest_and_a_tokenizer_that_differ_are_refused(
        self, tokenizer: str, manifest: str, tmp_path: Path
    ) -> None:
        folder = write_bundle(tmp_path / "bundle", preparation=tokenizer)
        write_manifest(folder, POLARITY, 32, manifest)
        with pytest.raises(ModelError, match="different preparations of texts: export the model again"):
            Predictor(folder)

    @pytest.mark.parametrize("mark", ["robertuito 2", "beto 1", "robertuito 1.5"])
    def test_an_unknown_one_is_refused(self, mark: str, tmp_path: Path) -> None:
        folder = write_bundle(tmp_path / "bundle", preparation="robertuito")
        told = (folder / "tokenizer.json").read_text(encoding="utf-8")
        (folder / "tokenizer.json").write_text(told.replace("robertuito 1", mark), encoding="utf-8")
        write_manifest(folder, POLARITY, 32, "robertuito")
        name, version = mark.split()
        result = twil_command("predict", EXAMPLES / "to_predict.tsv", "-m", folder)
        assert result.exit_code == 1
        said = f"reads texts prepared by '{name}', version {version}, and this twil knows robertuito 1, "
        assert said in result.stderr

    def test_a_library_that_lacks_is_named_when_the_bundle_is_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = write_bundle(tmp_path / "bundle", preparation="robertuito")
        _python_step.cache_clear()
        monkeypatch.setitem(sys.modules, "emoji", None)
        with pytest.raises(MissingExtraError, match=rf"{re.escape(install_command('preparations'))}"):
            Predictor(folder)

    def test_a_library_of_another_version_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = write_bundle(tmp_path / "bundle", preparation="bertweet")
        _python_step.cache_clear()
        monkeypatch.setattr(emoji, "__version__", "1.6.1")
        with pytest.raises(ConfigError, match=r"names from emoji 2.*and 1\.6\.1 is installed: pip install"):
            Predictor(folder)


def test_a_name_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no preparation 'roberta': choose one of robertuito, .*, none"):
        put_preparation(make_tokenizer(16), "roberta")


def with_name(folder: Path, name: str, target: Path) -> Path:
    """Copy a folder, as one that was made from a model of that name."""
    shutil.copytree(folder, target)
    value = json.loads((target / "config.json").read_text(encoding="utf-8"))
    write_json(target / "config.json", value | {"_name_or_path": name})
    return target


ROBERTUITO_NAME = "pysentimiento/robertuito-base-uncased"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny masked language model."""
    return make_hub_folder(tmp_path_factory.mktemp("plain") / "model", "roberta")


@pytest.fixture(scope="module")
def own(plain: Path) -> Path:
    """Give the same one, whose texts are prepared."""
    return with_name(plain, ROBERTUITO_NAME, plain.parent / "own")


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny classifier."""
    folder = tmp_path_factory.mktemp("judge") / "model"
    return make_hub_folder(
        folder, "roberta", "classifier", id2label={0: "negative", 1: "neutral", 2: "positive"}
    )


@pytest.fixture(scope="module")
def own_judge(judge: Path) -> Path:
    """Give the same one, whose texts are prepared."""
    return with_name(judge, ROBERTUITO_NAME, judge.parent / "own")


LABELS = ("negative", "neutral", "positive")
RAW_ROWS = [(text, LABELS[place % 3]) for place, text in enumerate(TWEETS)]
READY = [*map(prepared_by("robertuito"), TWEETS)]
READY_ROWS = [(text, label) for text, (_, label) in zip(READY, RAW_ROWS, strict=True)]

Ask = Callable[[Path, Path, Path], Any]


def pseudo_likelihoods(model: Path, file: Path, _: Path) -> Any:
    *_, found = score_pretrained(model, file, ["pll"], device="cpu")
    return found.pll


def masked_accuracy(model: Path, file: Path, _: Path) -> Any:
    *_, found = score_pretrained(model, file, ["mlm"], device="cpu")
    return found.mlm


def inspected(model: Path, file: Path, _: Path) -> Any:
    probe = open_probe(model, mlm=True, device="cpu")
    return [inspect_row(probe, file, row).tokens for row in (2, 5)]


def lengths(model: Path, file: Path, _: Path) -> Any:
    tally = LengthTally(TokenCounter(load_tokens(model)))
    tally.add(read_labelled(file).texts, None)
    return tally.lengths()


def corpus_tokens(model: Path, file: Path, folder: Path) -> Any:
    target = folder / f"{model.name}-{file.stem}"
    list(build_corpus([file], target, lambda: load_tokens(model), CorpusOptions(dev=0)))
    corpus = open_corpus(target)
    assert corpus.train.texts is not None
    return corpus.train.texts.tokens(np.arange(len(corpus.train.texts)))[0].tolist()


def scores(model: Path, file: Path, _: Path) -> Any:
    return evaluate(model, file, device="cpu").report


def tuned_weights(model: Path, file: Path, folder: Path, preparation: str | None = None) -> Any:
    options = {
        "data": {"train": file},
        "model": {"folder": model, "preparation": preparation},
        "train": {"epochs": 1, "lr": 1e-3, "batch_tokens": 256},
    }
    list(finetune_events(finetune_config(None, options), folder / "tuned", device="cpu", overwrite=True))
    return weights_hash(folder / "tuned")


@pytest.mark.filterwarnings("ignore::twil.core.errors.ModelWarning")
class TestFolders:
    """A model whose texts are prepared says of them what the same weights say of texts prepared before."""

    @pytest.mark.parametrize("ask", [pseudo_likelihoods, masked_accuracy, inspected, lengths, corpus_tokens])
    def test_a_pretrained_model(self, ask: Ask, plain: Path, own: Path, tmp_path: Path) -> None:
        expected = ask(plain, write_rows(tmp_path / "ready.tsv", READY_ROWS), tmp_path)
        raw = write_rows(tmp_path / "raw.tsv", RAW_ROWS)
        assert ask(own, raw, tmp_path) == expected
        assert ask(plain, raw, tmp_path) != expected

    @pytest.mark.parametrize("ask", [scores, tuned_weights])
    def test_a_classifier(self, ask: Ask, judge: Path, own_judge: Path, tmp_path: Path) -> None:
        expected = ask(judge, write_rows(tmp_path / "ready.tsv", READY_ROWS), tmp_path)
        raw = write_rows(tmp_path / "raw.tsv", RAW_ROWS)
        assert ask(own_judge, raw, tmp_path) == expected
        assert ask(judge, raw, tmp_path) != expected

    def test_masks(self, plain: Path, own: Path) -> None:
        text, ready = "jajajaja @ana [MASK] #VivaElRío", "jaja @usuario [MASK] hashtag viva el río"
        (filled,) = fill_masks(open_probe(own, mlm=True, device="cpu"), [text])
        (expected,) = fill_masks(open_probe(plain, mlm=True, device="cpu"), [ready])
        assert [[fill.token for fill in mask] for mask in filled.masks] == [
            [fill.token for fill in mask] for mask in expected.masks
        ]
        assert filled.masks[0][0].text.startswith("jajajaja @ana")  # the user's own text

    def test_a_mask_that_a_preparation_loses_is_named(self, plain: Path) -> None:
        _, tokenizer = load_with_tokenizer(plain)
        put_preparation(tokenizer, "bertweet")
        assert len(encode_masked(tokenizer, ["ok [MASK]"]).asked[0]) == 1
        with pytest.raises(DataError, match=r"\[MASK\] of text 2 is lost .* put blanks around it \(\):"):
            encode_masked(tokenizer, ["ok [MASK]", "):[MASK]"])

    def test_a_folder_a_bundle_and_their_record(self, own_judge: Path, judge: Path, tmp_path: Path) -> None:
        tuned_weights(own_judge, write_rows(tmp_path / "raw.tsv", RAW_ROWS), tmp_path)
        folder, record = tmp_path / "tuned", {"name": "robertuito", "version": 1}
        assert (
            json.loads((folder / "config.json").read_text(encoding="utf-8"))["twil"]["preparation"] == record
        )
        assert read_run(folder)["preparation"] == record
        manifest = export_onnx(folder, tmp_path / "bundle").manifest
        assert (manifest.preparation, manifest.format) == (record, PREPARED_FORMAT)
        assert "robertuito 1" in (tmp_path / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")
        model, tokenizer = load_with_tokenizer(folder)
        plain_tokens = load_with_tokenizer(judge)[1]
        assert encode(tokenizer, TWEETS).input_ids == encode(plain_tokens, READY).input_ids
        rows = encode_rows(READY, np.empty(0), plain_tokens)
        with Predictor(tmp_path / "bundle") as predictor:
            assert np.allclose(predictor.predict_logits(TWEETS), compute_logits(model, rows, 256), atol=1e-4)
        with pytest.raises(ConfigError, match="--text-in is for the tokens of twil vocab"):
            export_onnx(folder, tmp_path / "text", text_in=True)
        with pytest.raises(ConfigError, match="prepared by robertuito 1, not none: leave preparation out"):
            export_onnx(folder, tmp_path / "other", preparation=NONE)

    def test_what_the_library_saves_again_keeps_it(self, own_judge: Path, tmp_path: Path) -> None:
        tuned_weights(own_judge, write_rows(tmp_path / "raw.tsv", RAW_ROWS), tmp_path)
        transformers = library()
        again = tmp_path / "again"
        kind = transformers.AutoModelForSequenceClassification
        kind.from_pretrained(tmp_path / "tuned").save_pretrained(again)
        transformers.AutoTokenizer.from_pretrained(tmp_path / "tuned").save_pretrained(again)
        tokenizer = load_with_tokenizer(again)[1]
        assert (
            encode(tokenizer, TWEETS).input_ids == encode(load_tokens(tmp_path / "tuned"), TWEETS).input_ids
        )

    def test_a_folder_with_an_unknown_one_is_refused(self, own_judge: Path, tmp_path: Path) -> None:
        tuned_weights(own_judge, write_rows(tmp_path / "raw.tsv", RAW_ROWS), tmp_path)
        path = tmp_path / "tuned" / "tokenizer.json"
        path.write_text(
            path.read_text(encoding="utf-8").replace("robertuito 1", "robertuito 7"), encoding="utf-8"
        )
        result = twil_command("evaluate", tmp_path / "tuned", EXAMPLES / "tweets_dev.tsv")
        assert result.exit_code == 1
        assert "texts prepared by 'robertuito', version 7" in result.stderr

    def test_a_folder_that_says_nothing_takes_what_is_chosen(
        self, plain: Path, own: Path, tmp_path: Path
    ) -> None:
        raw = write_rows(tmp_path / "raw.tsv", RAW_ROWS)
        tuned_weights(plain, raw, tmp_path, preparation="cardiffnlp")
        tokenizer = load_tokens(tmp_path / "tuned")
        assert find_preparation(tokenizer, source="it") is PREPARATIONS["cardiffnlp"]
        assert read_run(tmp_path / "tuned")["config"]["model"]["preparation"] == "cardiffnlp"
        manifest = export_onnx(plain, tmp_path / "bundle", head="encoder", preparation="bertweet").manifest
        assert manifest.preparation["name"] == "bertweet"
        tuned_weights(own, raw, tmp_path, preparation=NONE)
        assert export_onnx(tmp_path / "tuned", tmp_path / "as it is").manifest.preparation == {}
        manifest = export_onnx(tmp_path / "tuned", tmp_path / "later", preparation="robertuito").manifest
        assert manifest.preparation["name"] == "robertuito"
        manifest = export_onnx(own, tmp_path / "none", head="encoder", preparation=NONE).manifest
        assert (manifest.preparation, manifest.format) == ({}, FORMAT)


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        ("pysentimiento/robertuito-base-cased", "robertuito"),
        ("pysentimiento/robertuito-sentiment-analysis", "robertuito"),
        ("cardiffnlp/twitter-xlm-roberta-base-sentiment", "cardiffnlp"),
        ("vinai/bertweet-large", "bertweet"),
        ("nadie/robertuito-base-cased", None),
        ("dccuchile/bert-base-spanish-wwm-cased", None),
        ("pysentimiento", None),
    ],
)
@pytest.mark.parametrize("where", ["the hub", "the folder"])
def test_a_known_name_brings_its_own_and_says_so(
    name: str, usual: str | None, where: str, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twil.model.folder.download", lambda asked: plain)
    monkeypatch.chdir(tmp_path)
    source = Path(name) if where == "the hub" else with_name(plain, name, tmp_path / "copy")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        tokenizer = load_tokens(source)
    found = find_preparation(tokenizer, source="it")
    assert (found and found.name) == usual
    notes = [str(each.message) for each in said if each.category is ModelWarning]
    assert len(notes) == (usual is not None)
    assert all(f"{name}" in note and f"prepared by {usual}" in note for note in notes)


def test_a_model_of_twils_own_has_none(tmp_path: Path, tokenizer_file: Path) -> None:
    encoder = EncoderConfig(
        vocab_size=load_tokenizer(tokenizer_file).get_vocab_size(), hidden_size=16, n_layers=1
    )
    save(tmp_path / "own", TWilBERT(ModelConfig(encoder=encoder)), load_tokenizer(tokenizer_file), {})
    with pytest.raises(ConfigError, match=r"a model of twil's own, whose tokenizer\.json prepares texts"):
        describe(tmp_path / "own", "robertuito")
    assert describe(tmp_path / "own", NONE).twilbert


def test_a_fresh_encoder_takes_none(tokenizer_file: Path) -> None:
    options = {"data": {"train": "x.tsv"}, "model": {"init": "tiny", "tokenizer": tokenizer_file}}
    with pytest.raises(ConfigError, match="preparation: texts are prepared for a trained model alone"):
        finetune_config(None, options, ["model.preparation=robertuito"])
