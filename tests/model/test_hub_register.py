"""Model folders of twil, opened by the transformers library."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_models import library, texts
from tokenizers import Tokenizer

import twil.hub
from twil.config.model import ClassifierConfig, EncoderConfig, MemoryConfig, ModelConfig, RopConfig
from twil.core.errors import MissingExtraError, ModelError, TwilError
from twil.core.installation import install_command
from twil.core.task import Task
from twil.model.folder import TOKENIZER, describe, load_with_tokenizer, save
from twil.model.twilbert import TWilBERT
from twil.text.cloze import encode_masked
from twil.text.tokenizer import SPECIAL, encode, load_tokenizer, max_length, original_tokenizer
from twil.train.objectives.classification import compute_logits, encode_rows

transformers = library()

LIKE = 1e-5
POSITIONS = 40
LONG = "palabra " * 200
TASKS = {
    "class": Task("class", ("N", "NEU", "P")),
    "multi-label": Task("multi-label", ("ira", "miedo", "asco"), thresholds=(0.3, 0.5, 0.6)),
    "regression": Task("regression", ("grado",)),
}
DECIDED = Task("class", ("no", "sí"), pair=True, scored=("sí",), thresholds=(0.3,), temperature=1.5)


@pytest.fixture(autouse=True)
def registered() -> None:
    """Register, as a user does first."""
    twil.hub.register()


def make(
    folder: Path,
    tokenizer: Tokenizer,
    task: Task | None = None,
    pooling: str = "cls",
    seed: int = 1,
    **heads: Any,
) -> Path:
    """Write a tiny model folder of random weights."""
    shape = EncoderConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        n_layers=2,
        n_heads=2,
        head_size=16,
        max_positions=POSITIONS,
        initializer_range=0.3,  # logits of different texts differ
        **heads.pop("encoder", {}),
    )
    if task is not None:
        heads |= {"classifier": ClassifierConfig(pooling=pooling), "task": task}
    torch.manual_seed(seed)
    tokenizer.enable_truncation(POSITIONS)
    save(folder, TWilBERT(ModelConfig(encoder=shape, **heads)).eval(), tokenizer, {"command": "test"})
    return folder


def ours(folder: Path, rows: list[Any]) -> np.ndarray[Any, Any]:
    """Ask twil for scores."""
    model, tokenizer = load_with_tokenizer(folder)
    return model.task.probabilities(compute_logits(model, encode_rows(rows, np.empty(0), tokenizer), 256))


def theirs(folder: Path, rows: list[Any]) -> np.ndarray[Any, Any]:
    """Ask a pipeline for scores, in batches."""
    pipe = transformers.pipeline("text-classification", model=str(folder), device="cpu")
    given = [row if isinstance(row, str) else {"text": row[0], "text_pair": row[1]} for row in rows]
    labels = describe(folder).task.labels  # type: ignore[union-attr]
    answers = [
        {entry["label"]: entry["score"] for entry in row} for row in pipe(given, top_k=None, batch_size=8)
    ]
    return np.array([[row[label] for label in labels] for row in answers])


class TestClassifiers:
    @pytest.mark.parametrize("kind", TASKS)
    def test_a_pipeline_gives_the_scores_of_twil(
        self, kind: str, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        folder = make(tmp_path / "model", tokenizer, TASKS[kind])
        rows = [*texts()[:20], "", LONG, "dice [SEP] y sigue"]
        assert np.abs(theirs(folder, rows) - ours(folder, rows)).max() < LIKE

    @pytest.mark.parametrize("pooling", ["avg", "max", "concat"])
    def test_every_pooling_gives_the_scores_of_twil(
        self, pooling: str, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        folder = make(tmp_path / "model", tokenizer, TASKS["class"], pooling)
        assert np.abs(theirs(folder, texts()[:9]) - ours(folder, texts()[:9])).max() < LIKE

    def test_pairs_give_the_scores_of_twil(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        folder = make(tmp_path / "model", tokenizer, Task("class", ("no", "sí"), pair=True))
        rows = [*zip(texts()[:9], texts()[9:18], strict=True), (LONG, "corta"), (LONG, LONG)]
        assert np.abs(theirs(folder, rows) - ours(folder, rows)).max() < LIKE

    def test_the_likeliest_label_is_called_by_its_name(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        found = set()
        for seed in range(3):
            folder = make(tmp_path / f"model-{seed}", tokenizer, TASKS["class"], seed=seed)
            pipe = transformers.pipeline("text-classification", model=str(folder), device="cpu")
            best = TASKS["class"].labels[ours(folder, ["qué día"])[0].argmax()]
            assert pipe("qué día")[0]["label"] == best
            found.add(best)
        assert len(found) > 1

    def test_temperature_is_what_the_library_does_not_know(
        self, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        warm = Task("class", ("N", "P"), temperature=2.0, thresholds=(0.4,))
        folder = make(tmp_path / "model", tokenizer, warm)
        model, tokens = load_with_tokenizer(folder)
        logits = compute_logits(model, encode_rows(texts()[:9], np.empty(0), tokens), 256)
        assert np.abs(theirs(folder, texts()[:9]) - warm.undecided.probabilities(logits)).max() < LIKE
        assert np.abs(theirs(folder, texts()[:9]) - warm.probabilities(logits)).max() > LIKE

    def test_a_new_classifier_on_a_pretrained_model(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        folder = make(tmp_path / "model", tokenizer, mlm=True)
        kind = transformers.AutoModelForSequenceClassification
        network = kind.from_pretrained(
            folder, id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2}
        )
        encoder = load_with_tokenizer(folder)[0].state_dict()["encoder.blocks.0.output_norm.weight"]
        assert torch.equal(network.encoder.blocks[0].output_norm.weight, encoder)
        weight = network.classifier.output.weight
        assert weight.shape == (3, 32)
        assert 0 < weight.abs().max() <= 0.6
        assert network.classifier.output.bias.abs().max() == 0
        network.save_pretrained(tmp_path / "saved")
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "saved")
        assert describe(tmp_path / "saved").task == Task("class", ("a", "b", "c"))


class TestEncoders:
    @pytest.mark.parametrize(
        "shape",
        [
            {},
            {"share_layers": True, "embedding_size": 16},
            {"memory": MemoryConfig(layers=(1,), n_heads=2, n_keys=8, key_size=8, knn=4, query_norm=True)},
        ],
        ids=["plain", "shared", "memory"],
    )
    def test_vectors_are_those_of_twil(
        self, shape: dict[str, Any], tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        folder = make(tmp_path / "model", tokenizer, mlm=True, rop=RopConfig(), encoder=shape)
        pipe = transformers.pipeline("feature-extraction", model=str(folder), device="cpu")
        model, tokens = load_with_tokenizer(folder)
        for text in [*texts()[:3], LONG]:
            with torch.inference_mode():
                expected = model.encode(torch.tensor(encode(tokens, [text]).input_ids))
            assert np.abs(np.array(pipe(text)) - expected.numpy()).max() < LIKE

    @pytest.mark.parametrize("original", [False, True], ids=["own tokens", "the original's tokens"])
    @pytest.mark.parametrize("tied", [False, True], ids=["own weights", "tied"])
    def test_masks_are_filled_as_twil_fills_them(
        self, tied: bool, original: bool, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        if original:
            words = sorted({word for text in texts() for word in text.lower().split()})
            (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, *words]))
            tokenizer = original_tokenizer(tmp_path / "vocab.txt", max_length=POSITIONS)
        folder = make(tmp_path / "model", tokenizer, mlm=True, tie_word_embeddings=tied)
        pipe = transformers.pipeline("fill-mask", model=str(folder), device="cpu")
        model, tokens = load_with_tokenizer(folder)
        for text in ["hoy es un [MASK] precioso", "[MASK] qué frío, ¡madre mía!", "me encanta este [MASK]"]:
            masked = encode_masked(tokens, [text])
            with torch.inference_mode():
                hidden = model.encode(torch.tensor(masked.input_ids))
                logits = model.mlm_logits(hidden)[0, int(masked.asked[0][0])]
            best = logits.softmax(-1).topk(5)
            answers = pipe(text)
            assert [answer["token"] for answer in answers] == best.indices.tolist()
            assert [answer["score"] for answer in answers] == pytest.approx(best.values.tolist(), abs=LIKE)
            assert "[CLS]" not in answers[0]["sequence"]

    def test_tied_weights_stay_one(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        folder = make(tmp_path / "model", tokenizer, mlm=True, tie_word_embeddings=True)
        network = transformers.AutoModelForMaskedLM.from_pretrained(folder)
        assert network.mlm.weight is network.encoder.embeddings.token.weight
        untied = make(tmp_path / "other", tokenizer, mlm=True)
        network = transformers.AutoModelForMaskedLM.from_pretrained(untied)
        assert network.mlm.weight is not network.encoder.embeddings.token.weight

    def test_a_model_without_masked_language_head_is_refused(
        self, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        folder = make(tmp_path / "model", tokenizer, TASKS["class"])
        with pytest.raises(ModelError, match="no masked-language head"):
            transformers.AutoModelForMaskedLM.from_pretrained(folder)


class TestTokenizers:
    def test_tokens_are_those_of_twil(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        tokens = transformers.AutoTokenizer.from_pretrained(make(tmp_path / "model", tokenizer))
        rows = [*texts(), LONG, "", "dice [SEP], [CLS] y [PAD]"]
        ours = load_tokenizer(tmp_path / "model" / TOKENIZER)
        assert tokens(rows).input_ids == encode(ours, rows).input_ids
        assert tokens.model_max_length == max_length(ours) == POSITIONS

    def test_rows_are_filled_up_on_the_right(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        tokens = transformers.AutoTokenizer.from_pretrained(make(tmp_path / "model", tokenizer))
        batch = tokens(["hola", "hola a todo el mundo"], padding=True)
        assert batch.input_ids[0][-1] == tokens.pad_token_id == 0
        assert batch.attention_mask[0][-1] == 0
        assert set(batch) == {"input_ids", "token_type_ids", "attention_mask"}

    def test_rows_stay_whole_where_that_is_asked(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        tokens = transformers.AutoTokenizer.from_pretrained(make(tmp_path / "model", tokenizer))
        assert len(tokens(LONG, truncation=False).input_ids) > POSITIONS
        assert len(tokens(LONG, truncation=True, max_length=7).input_ids) == 7


class TestSaving:
    @pytest.mark.parametrize(
        "task", [*TASKS.values(), Task("class", ("no", "sí"), True, ("sí",), (0.3,), 1.5)]
    )
    def test_a_classifier_saved_by_the_library_is_the_same_to_both(
        self, task: Task, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        folder, saved = make(tmp_path / "model", tokenizer, task), tmp_path / "saved"
        transformers.AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(saved)
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(saved)
        rows = texts()[:9] if not task.pair else list(zip(texts()[:9], texts()[9:18], strict=True))
        assert np.array_equal(ours(saved, rows), ours(folder, rows))
        assert np.array_equal(theirs(saved, rows), theirs(folder, rows))
        assert describe(saved).task == task

    @pytest.mark.parametrize("tied", [False, True], ids=["own weights", "tied"])
    def test_a_masked_language_model_saved_by_the_library_is_the_same_to_twil(
        self, tied: bool, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        folder, saved = (
            make(tmp_path / "model", tokenizer, mlm=True, tie_word_embeddings=tied),
            tmp_path / "saved",
        )
        transformers.AutoModelForMaskedLM.from_pretrained(folder).save_pretrained(saved)
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(saved)
        before, after = load_with_tokenizer(folder)[0], load_with_tokenizer(saved)[0]
        assert after.description == before.description
        assert all(
            torch.equal(value, after.state_dict()[name]) for name, value in before.state_dict().items()
        )

    def test_a_bare_encoder_saved_by_the_library_has_no_heads(
        self, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        folder, saved = make(tmp_path / "model", tokenizer, TASKS["class"], mlm=True), tmp_path / "saved"
        transformers.AutoModel.from_pretrained(folder).save_pretrained(saved)
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(saved)
        model = load_with_tokenizer(saved)[0]
        assert (model.own_task, model.has_mlm) == (None, False)

    def test_labels_changed_in_the_library_are_twil_s_too(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        folder, saved = make(tmp_path / "model", tokenizer, TASKS["multi-label"]), tmp_path / "saved"
        names = {0: "enojo", 1: "miedo", 2: "asco"}
        network = transformers.AutoModelForSequenceClassification.from_pretrained(folder, id2label=names)
        network.save_pretrained(saved)
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(saved)
        task = describe(saved).task
        assert task == TASKS["multi-label"].renamed({"ira": "enojo"})

    def test_a_tokenizer_with_more_tokens_is_refused_by_twil(
        self, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        folder, saved = make(tmp_path / "model", tokenizer, TASKS["class"]), tmp_path / "saved"
        network = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        tokens = transformers.AutoTokenizer.from_pretrained(folder)
        tokens.add_tokens(["nuevísimo"])
        network.resize_token_embeddings(len(tokens))
        network.save_pretrained(saved)
        tokens.save_pretrained(saved)
        assert len(transformers.AutoTokenizer.from_pretrained(saved)) == len(tokens)
        kind = transformers.AutoModelForSequenceClassification
        assert kind.from_pretrained(saved).get_input_embeddings().num_embeddings == len(tokens)
        with pytest.raises(ModelError, match="not the tokenizer of this model"):
            describe(saved)


class TestTraining:
    @pytest.mark.parametrize("kind", TASKS)
    def test_one_step_of_the_library_s_trainer_changes_the_weights(
        self, kind: str, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        pytest.importorskip("accelerate")
        folder = make(tmp_path / "model", tokenizer, TASKS[kind])
        network = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        tokens = transformers.AutoTokenizer.from_pretrained(folder)
        labels = {
            "class": [0, 1, 2, 0],
            "multi-label": [[1.0, 0.0, 1.0]] * 4,
            "regression": [0.5, 1.0, 2.0, 0.0],
        }
        rows = [
            {**tokens(text), "labels": label} for text, label in zip(texts()[:4], labels[kind], strict=True)
        ]
        trainer = transformers.Trainer(
            network,
            transformers.TrainingArguments(
                str(tmp_path / "out"),
                max_steps=1,
                per_device_train_batch_size=4,
                learning_rate=1e-3,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=rows,
            processing_class=tokens,
        )
        assert trainer.train().training_loss > 0
        trainer.save_model(str(tmp_path / "saved"))
        before, after = load_with_tokenizer(folder)[0], load_with_tokenizer(tmp_path / "saved")[0]
        assert after.own_task == TASKS[kind].undecided
        assert not torch.equal(
            *(model.state_dict()["encoder.blocks.0.attention_norm.weight"] for model in (before, after))
        )

    def test_the_loss_of_masked_tokens_is_the_library_s(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        folder = make(tmp_path / "model", tokenizer, mlm=True, tie_word_embeddings=True)
        network = transformers.AutoModelForMaskedLM.from_pretrained(folder)
        tokens = transformers.AutoTokenizer.from_pretrained(folder)
        ids = torch.tensor(tokens(texts()[:1]).input_ids)
        labels = torch.full_like(ids, -100)
        labels[0, 2] = ids[0, 2]
        output = network(ids, labels=labels)
        assert output.loss.item() == pytest.approx(-output.logits[0, 2].log_softmax(-1)[ids[0, 2]].item())


class TestRefused:
    def test_without_the_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(
            MissingExtraError,
            match=rf"^opening a twil model with transformers.*{re.escape(install_command('hub'))}",
        ):
            twil.hub.register()

    def test_weights_that_are_no_safetensors(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        folder = make(tmp_path / "model", tokenizer, TASKS["class"])
        weights = load_with_tokenizer(folder)[0].state_dict()
        (folder / "model.safetensors").unlink()
        torch.save(weights, folder / "pytorch_model.bin")
        with pytest.raises(OSError, match="safetensors"):
            transformers.AutoModelForSequenceClassification.from_pretrained(folder)

    def test_code_of_the_folder_is_not_run(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        folder, mark = make(tmp_path / "model", tokenizer, TASKS["class"]), tmp_path / "ran"
        (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')\n")
        change(folder, auto_map={"AutoConfig": "own.A", "AutoModelForSequenceClassification": "own.B"})
        assert np.abs(theirs(folder, texts()[:2]) - ours(folder, texts()[:2])).max() < LIKE
        assert not mark.exists()

    @pytest.mark.parametrize(
        "changed", [{"format": 9}, {"model": None}, {"model": {"encoder": {"n_layers": 1}}}]
    )
    def test_a_configuration_that_describes_no_model(
        self, changed: dict[str, Any], tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        folder = make(tmp_path / "model", tokenizer)
        change(folder, **changed)
        with pytest.raises(TwilError) as error:
            transformers.AutoModel.from_pretrained(folder)
        assert "\n" not in str(error.value)
        assert str(folder) in str(error.value)

    def test_a_folder_without_tokenizer(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        folder = make(tmp_path / "model", tokenizer)
        (folder / TOKENIZER).unlink()
        with pytest.raises((ModelError, OSError), match=r"tokenizer\.json|tokenizer for"):
            transformers.AutoTokenizer.from_pretrained(folder)


def test_a_second_call_changes_nothing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = make(tmp_path / "model", tokenizer)
    first = transformers.AutoModel.from_pretrained(folder)
    twil.hub.register()
    assert type(transformers.AutoModel.from_pretrained(folder)) is type(first)
    assert transformers.AutoConfig.from_pretrained(folder).max_position_embeddings == POSITIONS


def change(folder: Path, **values: Any) -> None:
    """Write other values into a folder's `config.json`."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
