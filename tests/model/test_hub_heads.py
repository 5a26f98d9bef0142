"""A classifier of twil's on an encoder of the library: pooling, dropouts and head as user or folder say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_models import FAMILIES, HIDDEN, POSITIONS, library, make_hub_folder, make_kin_folder, texts
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from test_hub_folders import CLS, NORMALIZE, Module, make_sentence_folder
from test_hub_training import DEV, run_of
from torch import nn
from tuning import same_weights

from twil.config.training import ClassifierChoice
from twil.core.errors import ConfigError, ModelError, ModelWarning
from twil.core.task import Task
from twil.evaluation.evaluate import evaluate
from twil.exporting.bundle import export_onnx
from twil.inference.predictor import Predictor
from twil.model.folder import describe, load, load_with_tokenizer, save
from twil.model.heads import _OWN, register_head
from twil.model.hub.model import HubModel
from twil.model.hub.reading import HEAD, Dropouts, make_hub_classifier
from twil.train.finetune import FinetuneFinished, FinetuneStarted, finetune_events
from twil.train.layers import head_rates
from twil.train.objectives.classification import compute_logits, encode_rows

pytest.importorskip("transformers", reason="the extra 'hub' is not installed")

LIKE = 2e-5
TASK = Task("class", ("N", "NEU", "P"))


def make_classifier(folder: Path, dropouts: Dropouts | None = None, **choice: Any) -> tuple[HubModel, Any]:
    """Put a new classifier on the encoder of a folder."""
    described = describe(folder).hub
    assert described is not None
    torch.manual_seed(3)
    return make_hub_classifier(described, TASK, ClassifierChoice(**choice), dropouts)


def their_pooled(folder: Path, pooling: str, *, special: bool) -> NDArray[np.float32]:
    """Pool the library's own hidden states of the example tweets, row by row."""
    network = library().AutoModel.from_pretrained(folder).eval()
    tokens = library().AutoTokenizer.from_pretrained(folder)
    found = []
    for text in texts()[:12]:
        inputs = tokens(text, truncation=True, max_length=POSITIONS, return_tensors="pt")
        with torch.inference_mode():
            hidden = network(**inputs).last_hidden_state[0].numpy()
        inner = hidden if special else hidden[1:-1]
        parts = {"cls": hidden[0], "avg": inner.mean(axis=0), "max": inner.max(axis=0)}
        found.append(np.concatenate(list(parts.values())) if pooling == "concat" else parts[pooling])
    return np.stack(found)


class TestNumbers:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_logits_are_the_head_s_of_the_library_s_hidden_states(self, family: str, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "encoder", family)
        for pooling, special in (("cls", True), ("avg", True), ("max", False), ("concat", False)):
            written = tmp_path / f"{pooling}"
            save(written, *make_classifier(folder, pooling=pooling, special_tokens=special), {})
            model, tokenizer = load_with_tokenizer(written)
            assert model.pooling == pooling
            found = compute_logits(model, encode_rows(texts()[:12], np.empty(0), tokenizer), 256)
            head = {name: value.numpy() for name, value in load_file(written / "model.safetensors").items()}
            pooled = their_pooled(written, pooling, special=special)
            expected = pooled @ head[f"{HEAD}output.weight"].T + head[f"{HEAD}output.bias"]
            np.testing.assert_allclose(found, expected, atol=LIKE)

    @pytest.mark.parametrize("pooling", ["cls", "avg"])
    @pytest.mark.parametrize("optimize", [False, True])
    def test_a_bundle_gives_the_same(self, optimize: bool, pooling: str, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "encoder", "roberta")
        save(tmp_path / "model", *make_classifier(folder, pooling=pooling), {})
        report = export_onnx(tmp_path / "model", tmp_path / "bundle", optimize=optimize)
        assert (report.manifest.pooling, report.unfused) == (pooling, ())
        model, tokenizer = load_with_tokenizer(tmp_path / "model")
        expected = compute_logits(model, encode_rows(texts()[:12], np.empty(0), tokenizer), 256)
        with Predictor(tmp_path / "bundle") as predictor:
            np.testing.assert_allclose(predictor.predict_logits(texts()[:12]), expected, atol=LIKE)

    def test_a_head_of_one_s_own_is_kept_by_its_name(self, tmp_path: Path) -> None:
        @register_head("deep")
        def deep(size: int, outputs: int) -> nn.Module:
            return nn.Sequential(nn.Linear(size, 7), nn.Tanh(), nn.Linear(7, outputs))

        try:
            folder = make_hub_folder(tmp_path / "encoder", "electra")
            made, tokenizer = make_classifier(folder, head="deep", pooling="avg")
            save(tmp_path / "model", made, tokenizer, {})
            ids = torch.tensor([[2, 9, 8, 3]])
            assert torch.equal(load(tmp_path / "model")(ids), made.eval()(ids))
        finally:
            del _OWN["deep"]
        with pytest.raises(ConfigError, match="there is no head 'deep'"):
            load(tmp_path / "model")


class TestDefault:
    @pytest.mark.parametrize(
        ("modules", "pooling"),
        [
            ([CLS, NORMALIZE], "cls"),
            ([("Pooling", {"pooling_mode": "mean"})], "avg"),
            ([("Pooling", {"pooling_mode": "max"})], "max"),
            ([("Pooling", {"pooling_mode": ["max", "cls", "mean"]})], "concat"),
            ([("Pooling", {"pooling_mode": "lasttoken"})], "avg"),
            ([("LSTM", {})], "avg"),
        ],
    )
    def test_it_pools_as_modules_say(self, modules: list[Module], pooling: str, tmp_path: Path) -> None:
        folder = make_sentence_folder(tmp_path / "st", *modules)
        with pytest.warns(ModelWarning, match=r"modules\.json") as said:
            model, _ = make_classifier(folder)
        assert (model.pooling, len(said)) == (pooling, 1)
        assert pooling in str(said[0].message)

    def test_without_a_pooler_that_it_would_read_tokens_are_averaged(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "encoder", "bert")
        with pytest.warns(ModelWarning, match=r"has no pooler: a new classifier pools its tokens \(avg\)"):
            model, tokenizer = make_classifier(folder)
        assert model.pooling == "avg"
        assert not [name for name, _ in model.named_parameters() if "pooler" in name]
        save(tmp_path / "model", model, tokenizer, {})
        assert not [name for name in load_file(tmp_path / "model" / "model.safetensors") if "pooler" in name]

    def test_where_something_else_is_chosen_no_pooler_is_said_to_be_lacking(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "encoder", "bert", "none")
        with pytest.warns(ModelWarning, match=r"^a new classifier pools its tokens \(avg\)$"):
            model, _ = make_classifier(folder, dropout=0.3)
        assert model.pooling == "avg"

    def test_with_one_the_classifier_is_the_library_s(self, tmp_path: Path) -> None:
        model, _ = make_classifier(make_hub_folder(tmp_path / "encoder", "bert", "none"))
        assert (model.pooling, model.head) == (None, "classifier")

    def test_the_library_s_can_be_had_all_the_same(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "encoder", "bert")
        with pytest.warns(ModelWarning, match="it begins with one drawn anew"):
            model, _ = make_classifier(folder, head="library")
        assert (model.pooling, model.head) == (None, "classifier")
        with pytest.raises(ConfigError, match=r"pooling would have no effect: the library's classifier"):
            make_classifier(folder, head="library", pooling="avg")


class TestDropouts:
    def test_they_act_in_training_alone_and_are_kept(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "encoder", "bert")
        model, tokenizer = make_classifier(folder, Dropouts(0.5, 0.0), pooling="avg", dropout=0.0)
        ids = torch.randint(5, 90, (4, 9), generator=torch.Generator().manual_seed(1))
        torch.manual_seed(0)
        dropped = model.train().encoder.embeddings(input_ids=ids)
        channels = (dropped == 0).all(dim=1)  # (B, D)
        assert 0.3 < channels.float().mean() < 0.7
        assert not (model.eval().encoder.embeddings(input_ids=ids) == 0).all(dim=1).any()
        save(tmp_path / "model", model, tokenizer, {})
        kept = load(tmp_path / "model")
        assert isinstance(kept, HubModel)
        assert (kept.input_dropout.p, kept.network.config.hidden_dropout_prob) == (0.5, 0.0)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_that_of_the_layers_is_the_library_s(self, family: str, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "encoder", family)
        model, _ = make_classifier(folder, Dropouts(output=0.25), pooling="avg")
        rates = {part.p for part in model.encoder.modules() if isinstance(part, nn.Dropout)}
        assert 0.25 in rates

    def test_an_encoder_without_it_is_told_to_leave_it_out(self, tmp_path: Path) -> None:
        folder = make_kin_folder(tmp_path / "model", "modernbert")
        with pytest.raises(
            ConfigError, match=r"model\.output_dropout: an encoder of type 'modernbert' has none"
        ):
            make_classifier(folder, Dropouts(output=0.1), pooling="avg")


class TestRates:
    @pytest.mark.parametrize("choice", [{"pooling": "avg"}, {"head": "library"}], ids=str)
    @pytest.mark.parametrize("family", FAMILIES)
    def test_what_lies_on_the_encoder_can_learn_faster(
        self, family: str, choice: dict[str, str], tmp_path: Path
    ) -> None:
        model, _ = make_classifier(make_hub_folder(tmp_path / "encoder", family), **choice)
        named = set(head_rates(model, 10.0))
        above = ("classifier", "pooler", "pre_classifier")
        assert named == {name for name, _ in model.named_parameters() if any(part in name for part in above)}
        assert named


class TestTraining:
    @pytest.fixture(scope="class")
    def encoder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return make_hub_folder(tmp_path_factory.mktemp("bert") / "encoder", "bert")

    def test_a_run_is_scored_as_its_folder_and_continued_bit_for_bit(
        self, encoder: Path, tmp_path: Path
    ) -> None:
        options = (
            "train.epochs=2",
            "train.layer_decay=0.5",
            "train.freeze=embeddings",
            "model.input_dropout=0.1",
        )
        config = run_of(encoder, "model.classifier.pooling=max", *options)
        finished = list(finetune_events(config, tmp_path / "whole"))[-1]
        assert isinstance(finished, FinetuneFinished)
        assert finished.dev is not None
        steps = iter(range(100))
        list(finetune_events(config, tmp_path / "parts", should_stop=lambda: next(steps) == 4))
        list(finetune_events(config, tmp_path / "parts", resume=True))
        assert same_weights(tmp_path / "whole", tmp_path / "parts")
        before, after = load(encoder), load(tmp_path / "whole")
        embedded = [model.depths[0].parameters() for model in (before, after)]
        assert all(map(torch.equal, *embedded))

    def test_it_is_trained_further_where_nothing_but_its_dropout_changes(
        self, encoder: Path, tmp_path: Path
    ) -> None:
        list(finetune_events(run_of(encoder, "model.classifier.pooling=avg"), tmp_path / "first"))
        still = ("train.lr=1e-12", "model.classifier.dropout=0.4")
        started, *_, _ = finetune_events(
            run_of(tmp_path / "first", *still, keep_head=True), tmp_path / "second"
        )
        assert isinstance(started, FinetuneStarted)
        assert started.kept_classifier
        one, two = (evaluate(tmp_path / name, DEV).report for name in ("first", "second"))
        assert one.labels == two.labels
        kept = load(tmp_path / "second")
        assert isinstance(kept, HubModel)
        assert kept.classifier is not None
        assert (kept.classifier.config.pooling, kept.classifier.config.dropout) == ("avg", 0.4)
        other = run_of(tmp_path / "first", "model.classifier.pooling=max", keep_head=True)
        with pytest.raises(ConfigError, match="another pooling or another head would be a new classifier"):
            list(finetune_events(other, tmp_path / "third"))
        theirs = run_of(encoder, "model.classifier.head=library")
        list(finetune_events(theirs, tmp_path / "library"))
        with pytest.raises(ConfigError, match="is the library's, which is kept as it is: leave pooling out"):
            list(
                finetune_events(
                    run_of(tmp_path / "library", "model.classifier.pooling=max", keep_head=True),
                    tmp_path / "fourth",
                )
            )


class TestDamaged:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        encoder = make_hub_folder(tmp_path / "encoder", "bert")
        save(tmp_path / "model", *make_classifier(encoder, pooling="avg"), {})
        return tmp_path / "model"

    @pytest.mark.parametrize("change", ["lacks", "other shape", "not finite"])
    def test_weights_of_the_classifier_are_checked(self, change: str, folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        if change == "lacks":
            del weights[f"{HEAD}output.bias"]
        elif change == "other shape":
            weights[f"{HEAD}output.weight"] = torch.zeros(3, HIDDEN + 1)
        else:
            weights[f"{HEAD}output.weight"][0, 0] = float("nan")
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        said = "are not finite" if change == "not finite" else "lack its classifier"
        with pytest.raises(ModelError, match=said):
            load(folder)

    def test_a_description_of_it_that_is_none_is_one_line(self, folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(path.read_text().replace('"pooling": "avg"', '"pooling": "sum"'))
        with pytest.raises(ModelError, match=r"config\.json: pooling: .*'cls', 'avg'"):
            load(folder)
