"""Models of the transformers library: read as it reads them, and written so that it opens them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_models import FAMILIES, POSITIONS, library, make_hub_folder, make_kin_folder, texts, their_logits

from twil.core.errors import ModelError
from twil.model.folder import describe, load_with_tokenizer, save
from twil.text.special import find_special
from twil.text.tokenizer import encode, max_length
from twil.train.objectives.classification import compute_logits, encode_rows

pytest.importorskip("transformers", reason="the extra 'hub' is not installed")

LABELS = {0: "N", 1: "NEU", 2: "P"}
LIKE = 1e-5


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Name one family after the other."""
    return str(request.param)


@pytest.fixture(scope="module")
def classifier(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a tiny classifier."""
    folder = tmp_path_factory.mktemp(family) / "classifier"
    return make_hub_folder(folder, family, "classifier", id2label=LABELS)


def our_logits(folder: Path, rows: list[Any]) -> np.ndarray[Any, Any]:
    """Ask twil, in padded batches."""
    model, tokenizer = load_with_tokenizer(folder)
    return compute_logits(model, encode_rows(rows, np.empty(0), tokenizer), 256)


class TestReading:
    def test_logits_are_those_of_the_library(self, classifier: Path) -> None:
        rows = [*texts()[:40], "", "palabra " * 200]
        assert np.abs(our_logits(classifier, rows) - their_logits(classifier, rows)).max() < LIKE

    def test_logits_of_pairs_are_those_of_the_library(self, classifier: Path) -> None:
        rows = list(zip(texts()[:20], texts()[20:40], strict=True))
        assert np.abs(our_logits(classifier, rows) - their_logits(classifier, rows)).max() < LIKE

    def test_tokens_are_those_of_the_library(self, classifier: Path) -> None:
        _, tokenizer = load_with_tokenizer(classifier)
        theirs = library().AutoTokenizer.from_pretrained(classifier)
        assert (
            encode(tokenizer, texts()).input_ids
            == theirs(texts(), truncation=True, max_length=POSITIONS).input_ids
        )

    def test_the_longest_row_is_the_model_s(self, classifier: Path) -> None:
        model, tokenizer = load_with_tokenizer(classifier)
        assert model.max_positions == max_length(tokenizer) == POSITIONS

    @pytest.mark.parametrize("kind", ["nystromformer", "ibert"])  # tables of more rows than there are places
    def test_the_longest_row_is_one_that_the_model_reads(self, kind: str, tmp_path: Path) -> None:
        model, tokenizer = load_with_tokenizer(make_kin_folder(tmp_path / "model", kind))
        ids = torch.tensor(encode(tokenizer, ["palabra " * 200]).input_ids)
        assert model.encode(ids).shape[1] == model.max_positions > POSITIONS - 4

    def test_hidden_states_and_tokens_are_those_of_the_library(self, family: str, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", family, "mlm")
        model, tokenizer = load_with_tokenizer(folder)
        theirs = library().AutoModelForMaskedLM.from_pretrained(folder).eval()
        ids = torch.tensor(encode(tokenizer, texts()[:1]).input_ids)
        with torch.inference_mode():
            hidden = model.encode(ids)
            told = theirs(input_ids=ids, output_hidden_states=True)
            assert (hidden - told.hidden_states[-1]).abs().max() < LIKE
            assert (model.mlm_logits(hidden) - told.logits).abs().max() < LIKE
            assert (model.mlm_logits(hidden[0, 2:4]) - told.logits[0, 2:4]).abs().max() < LIKE

    def test_gradients_of_the_masked_head_reach_all_of_the_model(self, family: str, tmp_path: Path) -> None:
        model, tokenizer = load_with_tokenizer(make_hub_folder(tmp_path / "model", family, "mlm"))
        ids = torch.tensor(encode(tokenizer, texts()[:1]).input_ids)
        model.mlm_logits(model.encode(ids)).logsumexp(-1).sum().backward()
        lacking = [
            name for name, entry in model.named_parameters() if entry.grad is None and "pooler" not in name
        ]
        assert lacking == []

    def test_a_bare_encoder_has_no_head(self, family: str, tmp_path: Path) -> None:
        model, _ = load_with_tokenizer(make_hub_folder(tmp_path / "model", family, "none"))
        assert (model.own_task, model.has_mlm) == (None, False)
        with pytest.raises(ModelError, match="twil finetune"):
            model.task  # noqa: B018

    def test_labels_are_the_model_s_own(self, classifier: Path) -> None:
        task = describe(classifier).task
        assert task is not None
        assert (task.kind, task.labels) == ("class", ("N", "NEU", "P"))

    @pytest.mark.parametrize(
        ("told", "kind"),
        [
            (
                {"problem_type": "multi_label_classification", "id2label": {0: "ira", 1: "miedo"}},
                "multi-label",
            ),
            ({"problem_type": "regression", "id2label": {0: "grado"}}, "regression"),
            ({"id2label": {0: "grado"}}, "regression"),
        ],
    )
    def test_the_kind_of_task_is_the_model_s_own(
        self, told: dict[str, Any], kind: str, tmp_path: Path
    ) -> None:
        task = describe(make_hub_folder(tmp_path / "model", "bert", "classifier", **told)).task
        assert task is not None
        assert task.kind == kind


class TestWriting:
    def test_the_library_opens_what_twil_wrote(self, classifier: Path, tmp_path: Path) -> None:
        model, tokenizer = load_with_tokenizer(classifier)
        save(tmp_path / "model", model, tokenizer, {"command": "test"})
        rows = [*texts()[:20], "palabra " * 200]
        written = their_logits(tmp_path / "model", rows)
        assert np.abs(written - their_logits(classifier, rows)).max() < LIKE
        assert np.abs(written - our_logits(tmp_path / "model", rows)).max() < LIKE
        config = library().AutoConfig.from_pretrained(tmp_path / "model")
        assert config.id2label == LABELS

    def test_the_library_s_tokenizer_cuts_a_written_folder_alike(
        self, classifier: Path, tmp_path: Path
    ) -> None:
        model, tokenizer = load_with_tokenizer(classifier)
        save(tmp_path / "model", model, tokenizer, {})
        theirs = library().AutoTokenizer.from_pretrained(tmp_path / "model")
        ours = encode(tokenizer, texts()).input_ids
        assert theirs(texts(), truncation=True).input_ids == ours
        assert theirs.pad_token_id == find_special(tokenizer, source="here").pad
        assert theirs.mask_token_id == find_special(tokenizer, source="here").mask

    def test_another_tokenizer_is_refused(self, tmp_path: Path) -> None:
        model, tokenizer = load_with_tokenizer(make_hub_folder(tmp_path / "source", "bert"))
        save(tmp_path / "model", model, tokenizer, {})
        file = tmp_path / "model" / "tokenizer.json"
        told = json.loads(file.read_text())
        told["normalizer"]["lowercase"] = not told["normalizer"]["lowercase"]
        file.write_text(json.dumps(told))
        with pytest.raises(ModelError, match="not the tokenizer of this model"):
            load_with_tokenizer(tmp_path / "model")


class TestRefused:
    def change(self, folder: Path, **values: Any) -> Path:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
        return folder

    def test_a_generative_model(self, tmp_path: Path) -> None:
        folder = self.change(make_hub_folder(tmp_path / "model", "bert"), architectures=["BertLMHeadModel"])
        with pytest.raises(ModelError, match="generative"):
            load_with_tokenizer(folder)

    def test_code_of_the_folder_is_not_run(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert")
        mark = tmp_path / "ran"
        (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')\n")
        self.change(
            folder, model_type="own", auto_map={"AutoModel": "own.Own", "AutoConfig": "own.OwnConfig"}
        )
        with pytest.raises(ModelError, match="runs no code"):
            load_with_tokenizer(folder)
        assert not mark.exists()

    def test_a_file_of_weights_that_holds_more_than_tensors(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert")
        mark = tmp_path / "ran"
        (folder / "model.safetensors").unlink()
        torch.save({"bert.weight": _Payload(mark)}, folder / "pytorch_model.bin")
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_with_tokenizer(folder)
        assert not mark.exists()

    def test_a_file_of_plain_weights_is_read(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert", "classifier", id2label=LABELS)
        expected = our_logits(folder, texts()[:5])
        network = library().AutoModelForSequenceClassification.from_pretrained(folder)
        (folder / "model.safetensors").unlink()
        torch.save(network.state_dict(), folder / "pytorch_model.bin")
        assert np.abs(our_logits(folder, texts()[:5]) - expected).max() < LIKE

    def test_weights_that_lack_a_layer(self, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        path = make_hub_folder(tmp_path / "model", "bert") / "model.safetensors"
        weights = load_file(path)
        save_file(
            {name: value for name, value in weights.items() if "layer.1." not in name}, path, {"format": "pt"}
        )
        with pytest.raises(ModelError, match="lack"):
            load_with_tokenizer(tmp_path / "model")

    def test_a_tokenizer_of_more_tokens_than_the_model_embeds(self, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert")
        tokens = library().AutoTokenizer.from_pretrained(folder)
        tokens.add_tokens(["nuevo"])
        tokens.save_pretrained(folder)
        with pytest.raises(ModelError, match="do not belong together"):
            load_with_tokenizer(folder)

    @pytest.mark.parametrize(
        ("kind", "shape", "reason"),
        [
            ("fnet", {}, "takes no mask"),
            (
                "funnel",
                {"block_sizes": [1, 1], "num_hidden_layers": None, "max_position_embeddings": None},
                "does not say how long a row may be",
            ),
        ],
    )
    def test_a_family_that_cannot_be_served(
        self, kind: str, shape: dict[str, Any], reason: str, tmp_path: Path
    ) -> None:
        with pytest.raises(ModelError, match=f"{reason}.*: give another model"):
            load_with_tokenizer(make_kin_folder(tmp_path / "model", kind, **shape))

    def test_a_name_that_is_on_no_hub(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ModelError, match=r"there is no model folder nobody/nothing.*check the name"):
            load_with_tokenizer("nobody/nothing")


class _Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return open, (str(self.mark), "w")
