"""What a folder of another library says of its model is followed, or named in one line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import write_bundle
from conftest import write_rows
from hub_models import (
    FAMILIES,
    HIDDEN,
    POSITIONS,
    SQUARE,
    library,
    make_config,
    make_hub_folder,
    make_tokens,
    texts,
    their_logits,
)
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tuning import twil_command

from twil.config.model import EncoderConfig, ModelConfig
from twil.core.errors import DataError, ModelError, ModelWarning
from twil.core.task import Task
from twil.data.tables.tables import TableReader
from twil.exporting.bundle import export_onnx
from twil.inference.embedder import Embedder
from twil.inference.predictor import Predictor
from twil.model.folder import describe, load, load_with_tokenizer, save
from twil.model.hub.description import HubDescription
from twil.model.hub.reading import make_hub_classifier
from twil.model.hub.sentence import read_modules
from twil.model.twilbert import TWilBERT
from twil.text.tokenizer import encode, load_tokenizer, max_length

pytest.importorskip("transformers", reason="the extra 'hub' is not installed")

LIKE = 2e-5
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 498679270\n"
Module = tuple[str, dict[str, Any]]
"""The kind of a module and its settings."""
CLS: Module = ("Pooling", {"word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": True})
NORMALIZE: Module = ("Normalize", {})


def dense(size: int, width: int, activation: str = "torch.nn.modules.activation.Tanh") -> Module:
    """Describe a dense layer."""
    return "Dense", {"in_features": size, "out_features": width, "activation_function": activation}


def make_sentence_folder(
    folder: Path,
    *modules: Module,
    family: str = "bert",
    encoder: str = "",
    settings: dict[str, Any] | None = None,
    prompts: dict[str, Any] | None = None,
) -> Path:
    """Write a tiny model as sentence-transformers does.

    Args:
        folder: Where.
        *modules: What lies behind the encoder.
        family: Of the encoder.
        encoder: The folder of the encoder within.
        settings: Of the encoder's texts.
        prompts: Of the model.
    """
    make_hub_folder(folder / encoder, family, "none")
    entries = [{"idx": 0, "name": "0", "path": encoder, "type": "sentence_transformers.models.Transformer"}]
    for place, (kind, told) in enumerate(modules, start=1):
        inner = folder / f"{place}_{kind}"
        inner.mkdir()
        (inner / "config.json").write_text(json.dumps(told))
        if kind == "Dense":
            random = torch.Generator().manual_seed(place)
            weights = {
                "linear.weight": torch.randn(told["out_features"], told["in_features"], generator=random),
                "linear.bias": torch.randn(told["out_features"], generator=random),
            }
            save_file(weights, inner / "model.safetensors")
        entries.append(
            {
                "idx": place,
                "name": str(place),
                "path": inner.name,
                "type": f"sentence_transformers.models.{kind}",
            }
        )
    (folder / "modules.json").write_text(json.dumps(entries))
    if settings is not None:
        (folder / encoder / "sentence_bert_config.json").write_text(json.dumps(settings))
    if prompts is not None:
        (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return folder


def their_hidden(folder: Path, rows: list[str], max_length: int = POSITIONS) -> list[NDArray[np.float32]]:
    """Compute hidden states with the library itself, row by row, each ``(T, D)``."""
    network = library().AutoModel.from_pretrained(folder).eval()
    tokens = library().AutoTokenizer.from_pretrained(folder)
    found = []
    for row in rows:
        inputs = tokens(row, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.inference_mode():
            found.append(network(**inputs).last_hidden_state[0].numpy())
    return found


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give vectors the length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


POOLINGS: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "cls": lambda hidden: hidden[0],
    "max": lambda hidden: hidden.max(axis=0),
    "mean": lambda hidden: hidden.mean(axis=0),
    "mean_sqrt_len_tokens": lambda hidden: hidden.sum(axis=0) / np.sqrt(len(hidden)),
    "weightedmean": lambda hidden: np.average(hidden, axis=0, weights=np.arange(1, len(hidden) + 1)),
    "lasttoken": lambda hidden: hidden[-1],
}
FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


class TestSentenceVectors:
    @pytest.mark.parametrize(
        "modes", [*[(mode,) for mode in POOLINGS], ("cls", "mean"), tuple(POOLINGS)], ids=str
    )
    @pytest.mark.parametrize("form", ["flags", "names"])
    def test_every_mode_of_pooling_is_that_of_the_folder(
        self, form: str, modes: tuple[str, ...], tmp_path: Path
    ) -> None:
        told = (
            {FLAGS[mode]: mode in modes for mode in POOLINGS} if form == "flags" else {"pooling_mode": modes}
        )
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(told))
        kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
        entries = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
        (tmp_path / "modules.json").write_text(json.dumps(entries))
        modules = read_modules(tmp_path)
        assert modules is not None
        hidden = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(1))
        lengths = [7, 4, 1]
        mask = (torch.arange(7) < torch.tensor(lengths)[:, None]).long()
        found = modules.make_vectors(5)(hidden, mask).numpy()
        rows = [row[:length].numpy() for row, length in zip(hidden, lengths, strict=True)]
        expected = [np.concatenate([POOLINGS[mode](row) for mode in modes]) for row in rows]
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_vectors_of_a_bundle_are_those_of_the_folder(self, tmp_path: Path) -> None:
        folder = make_sentence_folder(
            tmp_path / "st",
            CLS,
            dense(HIDDEN, 24),
            ("Dropout", {"dropout": 0.5}),
            dense(24, 12, "torch.nn.modules.linear.Identity"),
            NORMALIZE,
            settings={"max_seq_length": 16, "do_lower_case": False},
        )
        rows = [*texts()[:12], "palabra " * 60, "hola"]
        vectors = np.stack([hidden[0] for hidden in their_hidden(folder, rows, 16)])
        for place, activation in ((2, np.tanh), (4, lambda value: value)):
            layer = load_file(folder / f"{place}_Dense" / "model.safetensors")
            vectors = activation(vectors @ layer["linear.weight"].numpy().T + layer["linear.bias"].numpy())
        report = export_onnx(folder, tmp_path / "bundle", optimize=True)
        assert report.manifest.max_length == 16
        assert "normalised dense(12) of tanh dense(24) of cls pooling" in report.describe()
        with Embedder(tmp_path / "bundle") as embedder:
            assert embedder.width == 12
            np.testing.assert_allclose(embedder(rows), normalised(vectors), atol=LIKE)

    def test_texts_are_lowered_and_prompted_as_the_folder_asks(self, tmp_path: Path) -> None:
        folder = make_sentence_folder(
            tmp_path / "st",
            ("Pooling", {"pooling_mode_mean_tokens": True}),
            family="camembert",
            encoder="0_Transformer",  # as older versions of the library write
            settings={"do_lower_case": True},
            prompts={"prompts": {"query": "Consulta: ", "text": ""}, "default_prompt_name": "query"},
        )
        rows = [*texts()[:12], "¡QUÉ Día!"]
        asked = [f"consulta: {row.lower()}" for row in rows]
        expected = [hidden.mean(axis=0) for hidden in their_hidden(folder / "0_Transformer", asked)]
        with pytest.warns(ModelWarning, match="every text begins with 'Consulta: '"):
            export_onnx(folder, tmp_path / "bundle")
        with Embedder(tmp_path / "bundle") as embedder:
            np.testing.assert_allclose(embedder(rows), expected, atol=LIKE)

    @pytest.mark.parametrize(("length", "found"), [(None, POSITIONS), (1000, POSITIONS), (9, 9)])
    def test_texts_are_no_longer_than_model_and_folder_say(
        self, length: int | None, found: int, tmp_path: Path
    ) -> None:
        folder = make_sentence_folder(tmp_path / "st", CLS, family="roberta")
        (folder / "sentence_roberta_config.json").write_text(json.dumps({"max_seq_length": length}))
        assert max_length(load_with_tokenizer(folder)[1]) == found

    @pytest.mark.parametrize("value", [True, 0, -1, "16", 16.5])
    @pytest.mark.parametrize(
        ("file", "key"),
        [
            ("sentence_bert_config.json", "max_seq_length"),
            ("config_sentence_transformers.json", "truncate_dim"),
            ("config_sentence_transformers.json", "default_prompt_name"),
        ],
    )
    def test_a_setting_that_is_none_is_named(
        self, file: str, key: str, value: object, tmp_path: Path
    ) -> None:
        folder = make_sentence_folder(tmp_path / "st", CLS)
        (folder / file).write_text(json.dumps({key: value}))
        with pytest.raises(ModelError, match=rf"{file}: {key} .*correct it"):
            load(folder)

    def test_settings_that_are_not_followed_are_named(self, tmp_path: Path) -> None:
        settings = {"max_seq_length": 16, "tokenizer_args": {"model_max_length": 8}, "config_args": {}}
        folder = make_sentence_folder(tmp_path / "st", CLS, settings=settings)
        with pytest.warns(ModelWarning, match=r"tokenizer_args of sentence-transformers is not followed$"):
            load(folder)

    def test_a_prompt_that_spells_a_special_token_is_refused(self, tmp_path: Path) -> None:
        prompts = {"prompts": {"q": "[MASK] "}, "default_prompt_name": "q"}
        with (
            pytest.warns(ModelWarning, match="every text begins with"),
            pytest.raises(ModelError, match=r"spells the special token \[MASK\]"),
        ):
            load(make_sentence_folder(tmp_path / "st", CLS, prompts=prompts))

    @pytest.mark.parametrize("told", ["[]", "5", "null", "{}"])
    def test_a_pooling_that_says_nothing_is_named(self, told: str, tmp_path: Path) -> None:
        folder = make_sentence_folder(tmp_path / "st", CLS)
        (folder / "1_Pooling" / "config.json").write_text(told)
        with pytest.raises(ModelError, match="says nothing of the pooling"):
            load(folder).own_vectors()

    def test_a_length_without_room_for_text_is_told_with_its_folder(self, tmp_path: Path) -> None:
        folder = make_sentence_folder(tmp_path / "st", CLS, settings={"max_seq_length": 2})
        with pytest.raises(ModelError, match="st asks for rows that are too short: a length of 2 tokens"):
            load(folder)

    def test_vectors_are_cut_as_the_folder_asks(self, tmp_path: Path) -> None:
        folder = make_sentence_folder(tmp_path / "st", CLS, NORMALIZE, prompts={"truncate_dim": 8})
        vectors = load(folder).own_vectors()
        assert vectors is not None
        assert (vectors.size, vectors.name) == (8, "first 8 of normalised cls")
        hidden = torch.randn(2, 3, HIDDEN, generator=torch.Generator().manual_seed(1))
        expected = torch.nn.functional.normalize(hidden[:, 0], dim=-1)[:, :8]
        torch.testing.assert_close(vectors(hidden, torch.ones(2, 3, dtype=torch.long)), expected)

    @pytest.mark.parametrize(
        ("modules", "named"),
        [
            ([CLS, ("LayerNorm", {"dimension": HIDDEN})], "the module LayerNorm"),
            ([CLS, ("Dense", dense(HIDDEN, 8)[1] | {"use_residual": True})], "a dense layer of another kind"),
            ([CLS, dense(HIDDEN, 8, "own.activation.Swish")], "a dense layer of another kind"),
            ([CLS, ("Dense", dense(HIDDEN, 8)[1] | {"module_output_name": "b"})], "a dense layer of another"),
            ([("Pooling", {"pooling_mode_own": True})], "the pooling pooling_mode_own"),
            ([("Pooling", {"pooling_mode": "own"})], "the pooling own"),
            ([("LSTM", {}), CLS], "the module LSTM right behind the encoder"),
            ([], "no pooling"),
            ([("Pooling", {"pooling_mode": 3})], "the pooling 3"),
            (
                [("Pooling", {"pooling_mode": "cls", "include_prompt": False})],
                "a pooling that leaves the prompt out",
            ),
        ],
    )
    def test_what_cannot_be_computed_is_named(
        self, modules: list[Module], named: str, tmp_path: Path
    ) -> None:
        prompts = {"prompts": {"query": "q: "}, "default_prompt_name": "query"}
        folder = make_sentence_folder(tmp_path / "st", *modules, prompts=prompts)
        with pytest.warns(ModelWarning):
            model = load(folder)
        with pytest.raises(ModelError, match=rf"modules.json asks for {named}.*--pooling"):
            model.own_vectors()

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
    def test_a_dense_layer_that_is_not_there_is_named(self, file: str, tmp_path: Path) -> None:
        folder = make_sentence_folder(tmp_path / "st", CLS, dense(HIDDEN, 8))
        (folder / "2_Dense" / file).unlink()
        with pytest.raises(ModelError, match=r"2_Dense.*: copy the folder again"):
            load(folder).own_vectors()

    @pytest.mark.parametrize("shape", [(8, HIDDEN + 1), (HIDDEN,), (), (0, HIDDEN + 1)], ids=str)
    def test_a_dense_layer_of_other_vectors_is_named(self, shape: tuple[int, ...], tmp_path: Path) -> None:
        folder = make_sentence_folder(tmp_path / "st", CLS, dense(HIDDEN, 8))
        save_file({"linear.weight": torch.zeros(shape)}, folder / "2_Dense" / "model.safetensors")
        with pytest.raises(ModelError, match=f"2_Dense holds no dense layer of vectors of {HIDDEN} numbers"):
            load(folder).own_vectors()

    def test_a_pooling_that_is_asked_for_leaves_the_modules_out(self, tmp_path: Path) -> None:
        folder = make_sentence_folder(tmp_path / "st", ("LSTM", {}), NORMALIZE)
        report = export_onnx(folder, tmp_path / "bundle", pooling="avg")
        assert report.manifest.pooling == "avg"

    @pytest.mark.parametrize(
        ("written", "said"),
        [
            ("{", "lists no modules"),
            ('[{"path": ""}]', "lists no modules"),
            ('[{"path": null, "type": "Transformer"}]', "lists no modules"),
            ("[3]", "lists no modules"),
            ('[{"path": "", "type": "models.StaticEmbedding"}]', "begins with StaticEmbedding"),
            (
                '[{"path": "", "type": "Transformer"}, {"path": "../1_Pooling", "type": "Pooling"}]',
                "outside its folder",
            ),
        ],
    )
    def test_a_list_of_modules_that_is_none_is_one_line(
        self, written: str, said: str, tmp_path: Path
    ) -> None:
        folder = make_sentence_folder(tmp_path / "st", CLS)
        (folder / "modules.json").write_text(written)
        with pytest.raises(ModelError, match=said):
            describe(folder)


def cut_on_the_left(folder: Path) -> Any:
    """Let a folder say that texts lose their beginning; give its tokenizer as the library reads it."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation_side": "left"}))
    return library().AutoTokenizer.from_pretrained(folder)


class TestTruncation:
    @pytest.mark.parametrize("family", ["bert", "roberta"])
    def test_texts_lose_the_end_that_the_folder_says(self, family: str, tmp_path: Path) -> None:
        names = {0: "N", 1: "P"}
        folder = make_hub_folder(tmp_path / "model", family, "classifier", id2label=names)
        tokens = cut_on_the_left(folder)
        rows = ["qué bien " * 60 + "hoy", *texts()[:3]]
        _, tokenizer = load_with_tokenizer(folder)
        assert (
            encode(tokenizer, rows).input_ids == tokens(rows, truncation=True, max_length=POSITIONS).input_ids
        )
        export_onnx(folder, tmp_path / "bundle")
        with Predictor(tmp_path / "bundle") as predictor:
            np.testing.assert_allclose(predictor.predict_logits(rows), their_logits(folder, rows), atol=LIKE)
            assert [prediction.truncated for prediction in predictor(rows)] == [True, False, False, False]

    def test_a_model_trained_from_it_loses_the_same_end(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert", "none")
        tokens = cut_on_the_left(folder)
        described = describe(folder).hub
        assert described is not None
        model, tokenizer = make_hub_classifier(described, Task("class", ("N", "P")))
        save(tmp_path / "trained", model, tokenizer, {})
        rows = ["qué bien " * 60 + "hoy"]
        theirs = library().AutoTokenizer.from_pretrained(tmp_path / "trained")
        expected = tokens(rows, truncation=True, max_length=POSITIONS).input_ids
        assert theirs(rows, truncation=True).input_ids == expected
        assert encode(load_with_tokenizer(tmp_path / "trained")[1], rows).input_ids == expected


class TestNamed:
    @pytest.mark.parametrize(
        "kind", ["TokenClassification", "QuestionAnswering", "NextSentencePrediction", "MultipleChoice"]
    )
    def test_a_head_that_is_no_classifier(self, kind: str, tmp_path: Path) -> None:
        tokens = make_tokens("bert")
        name = f"BertFor{kind}"
        getattr(library(), name)(make_config("bert", tokens)).save_pretrained(tmp_path / "model")
        tokens.save_pretrained(tmp_path / "model")
        with pytest.warns(ModelWarning, match=f"{name}, of which twil reads the encoder alone") as said:
            load(tmp_path / "model")
        assert len(said) == 1
        described = describe(tmp_path / "model").hub
        assert described is not None
        with pytest.warns(ModelWarning, match=f"{name}, of which twil reads the encoder alone"):
            make_hub_classifier(described, Task("class", ("N", "P")))

    @pytest.mark.parametrize("name", ["RoFormerModel", "LongformerModel", "BertModel", "BertForPreTraining"])
    def test_an_encoder_has_no_other_head_whatever_it_is_called(self, name: str) -> None:
        config = {"model_type": "bert", "architectures": [name]}
        assert not HubDescription.parse(Path("config.json"), config).other_head

    def test_weights_that_nothing_reads(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert", "none")
        weights = load_file(folder / "model.safetensors")
        save_file(weights | {"classifier.weight": torch.ones(2, HIDDEN)}, folder / "model.safetensors")
        with pytest.warns(
            ModelWarning, match=r"hold classifier\.weight, which its config\.json has no use for"
        ):
            load(folder)

    def test_code_of_its_own_for_a_type_that_is_known(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert", "none")
        told = json.loads((folder / "config.json").read_text()) | {"auto_map": {"AutoModel": "own.Bert"}}
        (folder / "config.json").write_text(json.dumps(told))
        with pytest.warns(ModelWarning, match="code of its own.*plain bert"):
            load(folder)

    @pytest.mark.parametrize("head", ["none", "mlm", "classifier"])
    def test_nothing_of_a_folder_as_it_should_be(self, head: str, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert", head)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ModelWarning)
            load(folder)

    @pytest.mark.parametrize("told", ["own", ["regression"], {}])
    def test_a_task_that_there_is_not(self, told: object, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert", "classifier")
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"problem_type": told or [1]}))
        with pytest.raises(ModelError, match=r"there is no problem_type .*: choose one of single_label"):
            load(folder)

    @pytest.mark.parametrize(
        ("labels", "taken"), [({0: "N", 1: "P"}, "one label of several"), ({0: "grado"}, "a number")]
    )
    def test_a_task_that_is_assumed(self, labels: dict[int, str], taken: str, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert", "classifier", id2label=labels, problem_type=None)
        with pytest.warns(ModelWarning, match=rf"taken to give {taken}.*multi_label_classification"):
            load(folder)

    def test_a_task_that_is_left_open_is_told_when_it_is_scored(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "open", "bert", "classifier", problem_type=None)
        task = describe(folder).task
        assert task is not None
        rows = [("hola", "|".join(task.labels)), ("adiós", task.labels[0]), ("nada", "")]
        file = write_rows(tmp_path / "rows.tsv", rows)
        done = twil_command("evaluate", folder, file, "--task", "multi-label", "--json")
        assert (done.exit_code, done.stderr.count("note:")) == (0, 0), done.stderr
        assert "jaccard" in json.loads(done.stdout)["report"]["metrics"]
        said = make_hub_folder(tmp_path / "said", "bert", "classifier")
        refused = twil_command("evaluate", said, file, "--task", "multi-label")
        assert refused.exit_code == 1
        assert "says itself that its task is class, not multi-label: leave --task out" in refused.stderr

    def test_notes_are_lines_on_stderr_each_once(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert", "classifier", problem_type=None)
        done = twil_command("export", folder, "--onnx", "-o", tmp_path / "bundle")
        assert done.exit_code == 0, done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
        assert len(lines) == 1
        assert "problem_type" in lines[0]
        quiet = twil_command("export", folder, "--onnx", "-o", tmp_path / "other", "-q")
        assert (quiet.exit_code, quiet.stderr) == (0, "")


WRAPPERS: dict[str, Callable[[str], str]] = {
    "parallel": lambda name: f"module.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "both the other way": lambda name: f"_orig_mod.module.{name}",
    "parts": lambda name: name.replace("bert.", "bert._orig_mod.").replace("layer.0.", "layer.0._orig_mod."),
}


class TestWeights:
    @pytest.mark.parametrize("wrapper", WRAPPERS)
    @pytest.mark.parametrize("form", ["safetensors", "bin"])
    def test_those_of_a_wrapped_model_are_read_and_that_is_said(
        self, form: str, wrapper: str, tmp_path: Path
    ) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert", "classifier")
        weights = load_file(folder / "model.safetensors")
        wrapped = {WRAPPERS[wrapper](name): value for name, value in weights.items()}
        if form == "bin":
            (folder / "model.safetensors").unlink()
            torch.save(wrapped, folder / "pytorch_model.bin")
        else:
            save_file(wrapped, folder / "model.safetensors", {"format": "pt"})
        with pytest.warns(ModelWarning, match="that torch had wrapped"):
            model, tokenizer = load_with_tokenizer(folder)
        save(tmp_path / "written", model, tokenizer, {})
        written = load_file(tmp_path / "written" / "model.safetensors")
        assert written.keys() == weights.keys()
        assert all(torch.equal(written[name], value) for name, value in weights.items())

    def test_one_that_is_there_wrapped_and_unwrapped_is_refused(self, tmp_path: Path) -> None:
        path = make_hub_folder(tmp_path / "model", "bert", "none") / "model.safetensors"
        weights = load_file(path)
        wrapped = {f"module.{name}": value.clone() for name, value in weights.items()}
        save_file(weights | wrapped, path, {"format": "pt"})
        with pytest.warns(ModelWarning), pytest.raises(ModelError, match=r"hold .* twice, once wrapped"):
            load(path.parent)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("kind", ["own", "hub"])
    def test_those_that_are_not_finite_are_named(
        self, kind: str, value: float, tmp_path: Path, tokenizer: Tokenizer
    ) -> None:
        folder = tmp_path / "model"
        if kind == "hub":
            make_hub_folder(folder, "bert", "classifier")
        else:
            encoder = EncoderConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=16, n_layers=1)
            save(folder, TWilBERT(ModelConfig(encoder=encoder)), tokenizer, {})
        weights = load_file(folder / "model.safetensors")
        name = next(name for name in weights if "attention" in name)
        weights[name].view(-1)[3] = value
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelError, match="not finite") as raised:
            load(folder)
        assert name in str(raised.value)

    def test_a_model_that_is_not_finite_is_not_written(self, tmp_path: Path) -> None:
        model, tokenizer = load_with_tokenizer(make_hub_folder(tmp_path / "model", "bert", "none"))
        next(model.parameters()).data[0] = float("nan")
        with pytest.raises(ModelError, match="not finite"):
            save(tmp_path / "written", model, tokenizer, {})
        assert not (tmp_path / "written").exists()

    @pytest.mark.parametrize("content", [b"not a file of weights", b"", b"\x80\x04cos\nsystem\n."])
    def test_torch_s_advice_to_run_a_file_is_not_passed_on(self, content: bytes, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert")
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(ModelError, match="cannot be loaded") as raised:
            load(folder)
        assert "weights_only" not in str(raised.value)
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize(
        ("name", "program"),
        [
            ("tf_model.h5", "TensorFlow"),
            ("model.ckpt.index", "TensorFlow"),
            ("flax_model.msgpack", "Flax"),
            ("model.gguf", r"llama\.cpp"),
            ("model.onnx", "ONNX"),
        ],
    )
    def test_those_of_another_program_are_named(self, name: str, program: str, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert")
        (folder / "model.safetensors").rename(folder / name)
        with pytest.raises(ModelError, match=rf"weights of {program} alone \({name}\).*save_pretrained"):
            load(folder)

    @pytest.mark.parametrize("config", [True, False])
    def test_an_adapter_is_no_model(self, config: bool, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert")
        (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "casa/base"}))
        if not config:
            (folder / "config.json").unlink()
        with pytest.raises(ModelError, match=r"PEFT adapter of casa/base.*merge_and_unload"):
            load(folder)


class TestTokenizers:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_folder_without_one_is_refused(self, family: str, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", family)
        (folder / "tokenizer.json").unlink()
        with pytest.raises(ModelError, match=r"has no tokenizer \(none of .*: copy its files"):
            load(folder)

    def test_one_that_cuts_no_text_is_refused(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert")
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text("")
        with pytest.raises(ModelError, match=r"the tokenizer of .*: "):
            load(folder)

    def test_one_of_far_fewer_tokens_than_the_model_embeds_is_named(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert")
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text("\n".join([*SQUARE, "hola", "¿", "?"]) + "\n", encoding="utf-8")
        with pytest.warns(ModelWarning, match=r"has 8 tokens, and the model embeds \d+$"):
            load(folder)

    @pytest.mark.parametrize("length", ["60", [60], True])
    def test_a_length_that_is_no_number_is_named(self, length: object, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert")
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": length}))
        with pytest.raises(ModelError, match=r"tokenizer_config\.json: model_max_length is no number"):
            load(folder)

    def test_a_fault_of_the_configuration_is_not_put_down_to_it(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert")
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": "400"}))
        with pytest.raises(ModelError, match=r"config\.json cannot be read \(.*vocab_size"):
            load(folder)


class TestPointers:
    @pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
    def test_a_file_that_was_not_fetched_is_named(self, name: str, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert")
        (folder / name).write_text(POINTER)
        with pytest.raises(ModelError, match=rf"{name} stands for a file.*git lfs pull"):
            load(folder)

    @pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
    def test_a_layer_behind_the_pooling_too(self, form: str, tmp_path: Path) -> None:
        folder = make_sentence_folder(tmp_path / "st", CLS, dense(HIDDEN, 8))
        (folder / "2_Dense" / "model.safetensors").unlink()
        (folder / "2_Dense" / form).write_text(POINTER)
        with pytest.raises(ModelError, match=rf"2_Dense/{form} stands for a file.*git lfs pull"):
            load(folder).own_vectors()

    @pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
    def test_a_file_of_a_bundle_too(self, name: str, tmp_path: Path) -> None:
        bundle = write_bundle(tmp_path / "bundle")
        (bundle / name).write_text(POINTER)
        with pytest.raises(ModelError, match=rf"{name} stands for a file.*git lfs pull"):
            Predictor(bundle)

    def test_a_tokenizer_on_its_own_too(self, tmp_path: Path) -> None:
        (tmp_path / "tokenizer.json").write_text(POINTER)
        with pytest.raises(ModelError, match="git lfs pull"):
            load_tokenizer(tmp_path / "tokenizer.json")

    @pytest.mark.parametrize("form", ["tsv", "csv", "jsonl", "txt", "parquet", "tsv.gz"])
    def test_a_table_too(self, form: str, tmp_path: Path) -> None:
        (tmp_path / f"rows.{form}").write_text(POINTER)
        with pytest.raises(DataError, match=rf"rows.{form}: stands for a file.*git lfs pull"):
            TableReader(tmp_path / f"rows.{form}")

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "tf_model.h5", "model.onnx", "foto.png"])
    def test_one_that_nothing_reads_may_be_left_there(self, name: str, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert")
        (folder / name).write_text(POINTER)
        load(folder)
