"""Configurations of pretraining: those that come with twil, and the original's files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from twil.config.model import ModelConfig
from twil.config.original.pretraining import read_original_pretraining
from twil.config.original.weights import read_original
from twil.config.pretraining import PretrainConfig, pretrain_config, read_pretrain_config
from twil.core.errors import ConfigError
from twil.model.text_model import parameter_count
from twil.model.twilbert import TWilBERT

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TOKENS = 30_002  # of the original's vocabulary

ORIGINAL: dict[str, Any] = {
    "dataset": {"file": "pares.tsv", "vocab_file": "vocab"},
    "representation": {"max_len": 64},
    "model": {
        "factorize_embeddings": False,
        "cross_sharing": False,
        "embedding_size": 768,
        "hidden_size": 768,
        "n_encoders": 6,
        "n_heads": 6,
        "attention_size": 64,
        "input_dropout": 0.0,
        "output_dropout": 0.0,
        "initializer_range": 0.02,
        "pkm": False,
        "masked_lm": {
            "type": "span",
            "max_span": 3,
            "budget": 0.15,
            "probs": {"mask": 0.8, "random": 0.1, "keep": 0.1},
        },
        "rop": {"use_rop": True, "n_hidden": 1, "hidden_size": 512},
    },
    "training": {
        "batch_size": 32,
        "epochs": 10,
        "optimizer": "adam",
        "noam_annealing": True,
        "warmup_steps": 8000,
        "accum_iters": 32,
    },
}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the original's file with other settings, given by their paths; `...` takes one away."""

    def write(**changes: Any) -> Path:
        value = json.loads(json.dumps(ORIGINAL))
        for path, change in changes.items():
            *sections, key = path.split("__")
            section = value
            for name in sections:
                section = section.setdefault(name, {})
            if change is ...:
                del section[key]
            else:
                section[key] = change
        file = tmp_path / "config.json"
        file.write_text(json.dumps(value), encoding="utf-8")
        return file

    return write


def shipped(name: str) -> PretrainConfig:
    return read_pretrain_config(CONFIGS / f"{name}.toml", {}, [])


def shape(config: PretrainConfig, tokens: int = TOKENS) -> ModelConfig:
    return config.model.shape(vocab_size=tokens, rop=config.objective.rop)


def count(config: ModelConfig) -> int:
    with torch.device("meta"):
        return parameter_count(TWilBERT(config))


def translated(path: Path) -> PretrainConfig:
    original = read_original_pretraining(path)
    return pretrain_config(original.config, {"data": {"corpus": "corpus"}})


def test_every_shipped_file_is_tested() -> None:
    names = {path.stem for path in CONFIGS.glob("*.toml")}
    assert names == {"tiny", "base", "large", "large-mlm", "xlarge-pkm"}


def test_base_has_the_parameters_of_the_original() -> None:
    config = shape(shipped("base"))
    # The original counts a spare row of the token embedding too.
    assert count(config) + config.encoder.hidden_size == 81_747_508


def test_large_without_reply_order_lacks_the_head_and_nothing_else() -> None:
    large, alone = shipped("large"), shipped("large-mlm")
    assert round(count(shape(large)) / 1e6) == 131
    assert count(shape(large)) - count(shape(alone)) == 2 * (768 + 1)
    assert shape(alone).rop is None
    assert (alone.train, alone.optimiser) == (large.train, large.optimiser)
    assert alone.objective.masking == large.objective.masking


def test_xlarge_counts_shared_layers_once_and_the_memory() -> None:
    attention, norms, dense = 4 * 768 * 768, 4 * 768, 8 * 768**2 + 5 * 768
    embeddings = (TOKENS + 132 + 2) * 128 + (128 + 1) * 768
    memory = 4 * 512 * (768 + 1) + 4 * 2 * 256 * 256 + 256**2 * 768
    heads = (768 + 1) * TOKENS + (768 + 1) * 512 + 2 * 512 + 2 * (512 + 1)
    # The layer with the memory has an attention and norms of its own, and no feed-forward.
    layers = (attention + norms + dense) + (attention + norms + memory)
    assert count(shape(shipped("xlarge-pkm"))) == embeddings + layers + heads


def test_tiny_is_small_enough_for_a_laptop() -> None:
    config = shipped("tiny")
    assert count(shape(config, tokens=8000)) < 3_000_000
    assert config.train.steps is not None
    assert config.train.steps * config.train.batch_rows < 200_000


@pytest.mark.parametrize("name", ["base", "large", "large-mlm"])
def test_recipe_of_the_paper(name: str) -> None:
    config = shipped(name)
    assert (config.train.steps, config.train.batch_rows) == (110_000, 2048)
    assert (config.train.schedule, config.train.warmup, config.train.lr) == ("noam", 8000, None)
    assert (config.optimiser.name, config.optimiser.betas) == ("twilbert-adam", (0.9, 0.98))
    assert (config.objective.masking.kind, config.objective.masking.budget) == ("span", 0.15)


def test_xlarge_is_the_example_of_the_original_readme(shared: Path, tmp_path: Path) -> None:
    readme = (shared / "seeds" / "twilbert-readme.txt").read_text(encoding="utf-8")
    example = re.search(r"^configs/train/config_xlarge\.json\n(\{.*?^\})", readme, re.MULTILINE | re.DOTALL)
    assert example
    path = tmp_path / "config_xlarge.json"
    path.write_text(example[1], encoding="utf-8")
    original, ours = translated(path), shipped("xlarge-pkm")
    assert shape(ours) == shape(original)
    assert ours.objective == original.objective
    assert ours.optimiser == original.optimiser
    decisive = {"epochs", "batch_rows", "schedule", "warmup", "lr", "clip", "steps"}
    assert ours.train.model_dump(include=decisive) == original.train.model_dump(include=decisive)
    assert read_original_pretraining(path).max_length == 131
    assert shape(ours).encoder.max_positions == 132


def test_batch_of_the_original_is_accumulated(write: Write) -> None:
    config = translated(write(training__batch_size=8, training__accum_iters=3))
    assert config.train.batch_rows == 24


def test_original_file_says_where_its_data_lies(write: Write) -> None:
    original = read_original_pretraining(write())
    assert (original.pairs_file, original.vocab_file) == (Path("pares.tsv"), Path("vocab"))
    assert original.max_length == 2 * 64 + 3


def test_original_shape_is_the_one_that_import_reads(write: Write) -> None:
    memory = {
        "factorize_embeddings": False,
        "k_dim": 16,
        "memory_size": 8,
        "n_heads": 2,
        "knn": 4,
        "in_layers": [1],
        "batch_norm": True,
    }
    path = write(
        model__pkm=True,
        model__pkm_params=memory,
        model__factorize_embeddings=True,
        model__embedding_size=128,
        model__cross_sharing=True,
    )
    assert shape(translated(path)) == read_original(path, vocab_size=TOKENS).model


@pytest.mark.parametrize(
    ("change", "name", "lr"),
    [
        ("adam", "twilbert-adam", 1e-4),
        ("lamb", "lamb", 0.00176),
        ("rmsprop", "RMSprop", 1e-3),
        (None, "Adam", 1e-3),
    ],
)
def test_optimisers_of_the_original(write: Write, change: str | None, name: str, lr: float) -> None:
    constant = translated(write(training__optimizer=change, training__noam_annealing=False))
    assert (constant.optimiser.name, constant.train.lr) == (name, lr)
    assert (constant.train.schedule, constant.train.warmup) == ("constant", 0)
    annealed = translated(write(training__optimizer=change))
    assert (annealed.train.schedule, annealed.train.warmup, annealed.train.lr) == ("noam", 8000, None)


@pytest.mark.parametrize("kind", ["word", "token"])
def test_words_are_masked_one_by_one(write: Write, kind: str) -> None:
    path = write(model__masked_lm__type=kind)
    assert translated(path).objective.masking.kind == "token"
    assert any("max_span is not used" in note for note in read_original_pretraining(path).notes)


@pytest.mark.parametrize("rop", [{"use_rop": False, "n_hidden": 0, "hidden_size": 512}, {}])
def test_reply_order_can_be_off(write: Write, rop: dict[str, Any]) -> None:
    config = translated(write(model__rop=rop))
    assert not config.objective.rop
    assert shape(config).rop is None


LEFT_OUT: dict[str, tuple[Any, str]] = {
    "training__use_gpu": (True, "--device"),
    "training__multi_gpu": (True, "torchrun"),
    "training__n_gpus": (2, "torchrun"),
    "training__verbose": (1, "--quiet"),
    "training__path_save_weights": ("pesos/", "--output"),
    "training__path_initial_weights": ("pesos/model.hdf5", "twil import"),
    "representation__bucket_min_a": (5, "batched by length"),
    "model__output_dropout": (0.1, "when predicting too"),
    "model__pkm_params": ({"k_dim": 16}, "pkm is off"),
    "model__embedding_size": (128, "factorize_embeddings is off"),
    "model__rop": ({"use_rop": True, "n_hidden": 0, "hidden_size": 20}, "no hidden layer"),
    "training__noam_annealing": (False, "warmup_steps is not used"),
    "training__optimizer": ("sgd", "Keras"),
    "training__gradient_noise": (0.1, "training.gradient_noise is no setting"),
    "model__masked_lm__whole_words": (True, "model.masked_lm.whole_words is no setting"),
    "sampling": ({"rate": 2}, "sampling.rate is no setting"),
}


@pytest.mark.parametrize("path", LEFT_OUT)
def test_what_is_left_out_is_named_once(write: Write, path: str) -> None:
    value, word = LEFT_OUT[path]
    before = set(read_original_pretraining(write()).notes)
    new = [note for note in read_original_pretraining(write(**{path: value})).notes if note not in before]
    assert [word in note for note in new] == [True], new


def test_the_trained_length_decides_where_both_are_given(write: Write) -> None:
    original = read_original_pretraining(write(representation__max_len_training=20))
    assert original.max_length == 43
    assert not any("max_len_training" in note for note in original.notes)


def test_a_memory_says_that_its_queries_are_not_normalised(write: Write) -> None:
    params = {"k_dim": 16, "memory_size": 8, "n_heads": 2, "knn": 4, "in_layers": [1], "batch_norm": False}
    path = write(model__pkm=True, model__pkm_params=params)
    memory = shape(translated(path)).encoder.memory
    assert memory is not None
    assert not memory.query_norm
    assert any("query_norm" in note for note in read_original_pretraining(path).notes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"finetuning": {"epochs": 3}, "task": {}}, "describes a fine-tuning"),
        ({"training": ..., "test": {"path_load_weights": "pesos"}}, "describes an evaluation"),
        ({"training": ...}, "describes no training"),
        ({"training__batch_size": "32"}, "training.batch_size"),
        ({"training__batch_size": 0}, "training.batch_size"),
        ({"training__epochs": ...}, "training.epochs: is missing"),
        ({"training__warmup_steps": ...}, "noam_annealing needs it"),
        ({"training__optimizer": "adagard"}, "adagrad"),
        ({"dataset__file": ...}, "dataset.file: is missing"),
        ({"model__masked_lm__type": "phrase"}, "model.masked_lm.type"),
        ({"model__masked_lm__budget": 1.5}, "budget"),
        ({"model__masked_lm__probs__mask": 0.5}, "add up to 0.7"),
        ({"model__hidden_size": ...}, "hidden_size"),
        ({"model__n_heads": 0}, "n_heads"),
        ({"representation__max_len": 0}, "no room for text"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(
    write: Write, changes: dict[str, Any], said: str
) -> None:
    path = write(**changes)
    with pytest.raises(ConfigError) as caught:
        read_original_pretraining(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_of_the_original_are_read(shared: Path) -> None:
    for name in ("base_like", "shared_factorized", "pkm", "mlm_only"):
        path = shared / "fixtures" / name / "config.json"
        original = read_original_pretraining(path)
        config = translated(path)
        assert shape(config, tokens=1500) == read_original(path, vocab_size=1500).model
        assert (config.train.batch_rows, config.train.warmup) == (16, 10)
        assert sum("bucket" in note for note in original.notes) == 1
    for name in ("lm_config", "rop_config"):
        with pytest.raises(ConfigError, match="describes an evaluation"):
            read_original_pretraining(shared / "fixtures" / "evaluation" / f"{name}.json")


def test_how_long_a_run_is_says_what_was_given_last() -> None:
    file = {"data": {"corpus": "corpus"}, "model": {"init": "tiny"}, "train": {"steps": 9}}
    given = pretrain_config(file, {}, ["train.epochs=3"]).train
    assert (given.epochs, given.steps) == (3, None)
    given = pretrain_config(file, {"train": {"epochs": 2}}, ["train.steps=5"]).train
    assert given.steps == 5
    with pytest.raises(ConfigError, match="epochs and steps are two ways"):
        pretrain_config(file | {"train": {"steps": 9, "epochs": 2}}, {})


def test_a_model_folder_among_the_overrides_takes_the_place_of_the_shape() -> None:
    shape = {"init": "tiny", "tie_word_embeddings": True, "encoder": {"n_layers": 3}}
    file = {"data": {"corpus": "corpus"}, "model": shape}
    model = pretrain_config(file, {}, ["model.folder=encoder"]).model
    assert (model.folder, model.is_drawn, model.tie_word_embeddings) == (Path("encoder"), False, False)


def test_the_size_of_the_vocabulary_is_no_setting() -> None:
    file = {"data": {"corpus": "corpus"}, "model": {"init": "tiny", "encoder": {"vocab_size": 9}}}
    with pytest.raises(ConfigError, match="vocab_size is that of the tokenizer"):
        pretrain_config(file, {}).model.draw(vocab_size=600)
