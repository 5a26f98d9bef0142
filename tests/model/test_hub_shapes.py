"""Folders of the transformers library as they are found: written long ago, by hand, or by it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_models import LAYERS, POSITIONS, library, make_hub_folder, make_kin_folder, texts, their_logits
from safetensors.torch import load_file
from tuning import twil_command, write_sets

from twil.core.errors import ModelError
from twil.model.folder import describe, load_tokens, load_with_tokenizer, save
from twil.text.tokenizer import encode, max_length
from twil.train.objectives.classification import compute_logits, encode_rows

pytest.importorskip("transformers", reason="the extra 'hub' is not installed")

LABELS = {0: "N", 1: "NEU", 2: "P"}
ROWS = [*texts()[:20], "", "palabra " * 200]
LIKE = 1e-5


def change(path: Path, **values: Any) -> None:
    """Set keys of a file of JSON; those that are None are taken out."""
    told = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(
        json.dumps({name: value for name, value in told.items() if value is not None}), encoding="utf-8"
    )


def keep_words_alone(folder: Path) -> None:
    """Leave the vocabulary as a list of words, as before there was a `tokenizer.json`."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))


def rename_as_of_old(folder: Path) -> None:
    """Save the weights as PyTorch did, under the names of the first releases, with a table of positions."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in weights.items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    torch.save(old, folder / "pytorch_model.bin")


def part_weights(folder: Path) -> None:
    """Save the weights in several files."""
    network = library().AutoModelForSequenceClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    network.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1


def halve_weights(folder: Path) -> None:
    """Save the weights in half precision."""
    network = library().AutoModelForSequenceClassification.from_pretrained(folder)
    network.half().save_pretrained(folder)


def unbound_rows(folder: Path) -> None:
    """Write what the library writes where a tokenizer has no longest row."""
    change(folder / "tokenizer_config.json", model_max_length=int(1e30))


@pytest.mark.parametrize(
    "alter", [keep_words_alone, rename_as_of_old, part_weights, halve_weights, unbound_rows]
)
def test_a_folder_of_another_shape_gives_the_library_s_logits(
    alter: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = make_hub_folder(tmp_path / "model", "bert", "classifier", id2label=LABELS)
    before = their_logits(folder, ROWS)
    alter(folder)
    model, tokenizer = load_with_tokenizer(folder)
    assert max_length(tokenizer) == POSITIONS
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    found = compute_logits(model, encode_rows(ROWS, np.empty(0), tokenizer), 256)
    assert np.abs(found - before).max() < (1e-2 if alter is halve_weights else LIKE)


def test_outputs_without_names_are_numbered(tmp_path: Path) -> None:
    folder = make_hub_folder(tmp_path / "model", "bert", "classifier", id2label=LABELS)
    change(folder / "config.json", id2label=None, label2id=None, num_labels=3)
    task = describe(folder).task
    assert task is not None
    assert task.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_a_tokenizer_in_python_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = make_hub_folder(tmp_path / "model", "roberta")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "vocab.txt").write_text("hola 9\nadiós 3\n", encoding="utf-8")
    (folder / "bpe.codes").write_text("h o 1\n", encoding="utf-8")
    change(folder / "config.json", tokenizer_class="BertweetTokenizer")
    with pytest.raises(ModelError, match=r"in Python alone \(BertweetTokenizer\)"):
        load_tokens(folder)


def test_a_configuration_without_a_type_is_told_what_it_lacks(tmp_path: Path) -> None:
    folder = make_hub_folder(tmp_path / "model", "bert")
    change(folder / "config.json", model_type=None)
    with pytest.raises(ModelError, match='add the type that it lacks, such as "model_type": "bert"'):
        describe(folder)


def test_a_model_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    folder = make_hub_folder(tmp_path / "model", "bert")
    change(folder / "config.json", hidden_act="nothing")
    sets = write_sets(tmp_path)
    done = twil_command("finetune", sets["train"], "--model", folder, "-o", tmp_path / "tuned")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "describes a model that cannot be made" in done.stderr
    assert not (tmp_path / "tuned").exists()


def test_settings_layer_by_layer_are_no_hindrance_to_a_new_classifier(tmp_path: Path) -> None:
    folder = make_kin_folder(
        tmp_path / "model", "longformer", attention_window=[8] * LAYERS, max_position_embeddings=POSITIONS + 2
    )
    sets = write_sets(tmp_path)
    options = ("--epochs", 1, "--batch-tokens", 128, "-q")
    done = twil_command("finetune", sets["train"], "--model", folder, *options, "-o", tmp_path / "tuned")
    assert done.exit_code == 0, done.stderr


def test_a_name_within_a_folder_is_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("twil.model.folder.download", lambda name: pytest.fail(f"{name} was asked for"))
    (tmp_path / "runs" / "modelo").mkdir(parents=True)
    with pytest.raises(ModelError, match="there is no model folder runs/model"):
        describe("runs/model")


def test_the_tokens_of_a_model_are_counted(tmp_path: Path) -> None:
    folder = make_hub_folder(tmp_path / "model", "bert")
    sets = write_sets(tmp_path)
    whole = twil_command("data", sets["train"], "--model", folder, "--json", "-q")
    keep_words_alone(folder)
    words = twil_command("data", sets["train"], "--model", folder, "--json", "-q")
    assert whole.exit_code == words.exit_code == 0, whole.stderr + words.stderr
    counted = [json.loads(done.stdout)["files"] for done in (whole, words)]
    assert counted[0] == counted[1]
    assert '"truncated": 0' in whole.stdout


class TestWayBack:
    """From twil to the library, and from there to twil again."""

    @pytest.fixture
    def written(self, tmp_path: Path) -> Path:
        """Give a folder that twil wrote."""
        folder = make_hub_folder(tmp_path / "source", "roberta", "classifier", id2label=LABELS)
        model, tokenizer = load_with_tokenizer(folder)
        model.set_task(replace(model.task, temperature=2.0))
        save(tmp_path / "written", model, tokenizer, {})
        return tmp_path / "written"

    def again(self, source: Path, target: Path, **settings: Any) -> Path:
        """Use a folder in the library, and save it from there."""
        network = library().AutoModelForSequenceClassification.from_pretrained(source, **settings)
        tokens = library().AutoTokenizer.from_pretrained(source)
        tokens(texts()[:2], padding=True, truncation=True, max_length=20)
        network.save_pretrained(target)
        tokens.save_pretrained(target)
        return target

    def test_it_opens_with_the_same_logits_and_the_same_task(self, written: Path, tmp_path: Path) -> None:
        folder = self.again(written, tmp_path / "again")
        assert (folder / "tokenizer.json").read_bytes() != (written / "tokenizer.json").read_bytes()
        model, tokenizer = load_with_tokenizer(folder)
        assert model.task == load_with_tokenizer(written)[0].task
        assert model.task.temperature == 2
        assert max_length(tokenizer) == POSITIONS
        found = compute_logits(model, encode_rows(ROWS, np.empty(0), tokenizer), 256)
        assert np.abs(found - their_logits(written, ROWS)).max() < LIKE

    def test_labels_that_were_given_other_names_are_called_so(self, written: Path, tmp_path: Path) -> None:
        names = {0: "mal", 1: "así", 2: "bien"}
        task = describe(self.again(written, tmp_path / "again", id2label=names)).task
        assert task is not None
        assert (task.labels, task.temperature) == (("mal", "así", "bien"), 2)

    def test_another_classifier_is_another_task(self, written: Path, tmp_path: Path) -> None:
        folder = self.again(written, tmp_path / "again", num_labels=5, ignore_mismatched_sizes=True)
        task = describe(folder).task
        assert task is not None
        assert (len(task.labels), task.temperature) == (5, 1)

    def test_other_tokens_are_refused(self, written: Path) -> None:
        tokenizer = library().AutoTokenizer.from_pretrained(written)
        tokenizer.add_tokens(["jajaja"])
        tokenizer.save_pretrained(written)
        with pytest.raises(ModelError, match="is not the tokenizer of this model"):
            load_tokens(written)
        assert encode(load_tokens(written.with_name("source")), ["hola"]).input_ids
