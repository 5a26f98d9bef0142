"""Masks filled from a bundle: what the model folder says, to the token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from bundles import make_tokenizer
from tokenizers import Tokenizer

from twil.config.model import EncoderConfig, ModelConfig
from twil.core.errors import ConfigError, DataError
from twil.evaluation.pretrained.probing import Probe, fill_masks, open_probe
from twil.exporting.bundle import export_onnx
from twil.inference.fill_mask import MaskFiller
from twil.model.folder import save
from twil.model.twilbert import TWilBERT
from twil.text.cloze import rank_tokens

TEXTS = [
    "hoy es un [MASK] día",
    "[MASK] me [MASK] el mar[MASK]",
    "[MASK]",
    "hoy es un [MASK] día",
    "esta noche no [MASK] nadie: " + "ja " * 80,
]


@pytest.fixture(scope="module", params=["own", "of original weights"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model and its bundle; the tokenizer of original weights takes [MASK] for punctuation."""
    own = request.param == "own"
    tokenizer = (
        Tokenizer.from_file(str(request.getfixturevalue("tokenizer_file"))) if own else make_tokenizer(40)
    )
    encoder = EncoderConfig(
        vocab_size=tokenizer.get_vocab_size() + 2,  # two spare ids
        hidden_size=16,
        n_layers=1,
        n_heads=2,
        head_size=8,
        max_positions=40,
        initializer_range=0.3,
    )
    torch.manual_seed(4)
    path = tmp_path_factory.mktemp("masks")
    save(path / "model", TWilBERT(ModelConfig(encoder=encoder, mlm=True)), tokenizer, {})
    export_onnx(path / "model", path / "bundle", head="fill-mask")
    return path


@pytest.fixture(scope="module")
def filler(folder: Path) -> MaskFiller:
    return MaskFiller(folder / "bundle", provider="cpu", batch_tokens=60)


@pytest.fixture(scope="module")
def probe(folder: Path) -> Probe:
    return open_probe(folder / "model", mlm=True, device="cpu")


def test_a_bundle_gives_the_tokens_and_probabilities_of_its_model(filler: MaskFiller, probe: Probe) -> None:
    found, expected = filler.fill(TEXTS, top_k=4), fill_masks(probe, TEXTS, top_k=4)
    assert [len(text.masks) for text in found] == [1, 3, 1, 1, 1]
    assert [text.truncated for text in found] == [False] * 4 + [True]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.text, ours.truncated) == (theirs.text, theirs.truncated)
        for fills, wanted in zip(ours.masks, theirs.masks, strict=True):
            assert [(fill.token, fill.text) for fill in fills] == [(fill.token, fill.text) for fill in wanted]
            np.testing.assert_allclose(
                [fill.probability for fill in fills], [fill.probability for fill in wanted], rtol=1e-4
            )


def test_faults_are_those_of_the_model_folder(filler: MaskFiller) -> None:
    assert filler.fill([]) == []
    with pytest.raises(DataError, match=r"text 2 has no \[MASK\]"):
        filler.fill(["a [MASK]", "sin máscara"])
    with pytest.raises(DataError, match=r"\[MASK\] 2 of text 1 lies behind the longest row"):
        filler.fill([f"[MASK] {'la ' * 60} [MASK]"])
    with pytest.raises(ConfigError, match="best 100000 tokens"):
        filler.fill(["[MASK]"], top_k=100_000)


def test_texts_are_those_of_whatever_a_predictor_takes(filler: MaskFiller) -> None:
    expected = filler.fill(TEXTS)
    for given in (iter(TEXTS), np.array(TEXTS), pa.array(TEXTS), pa.table({"ID": range(5), "TEXT": TEXTS})):
        assert filler.fill(given) == expected
    assert filler.fill(TEXTS[0]) == expected[:1]
    with pytest.raises(DataError, match=r"item 1 is missing \(None\)"):
        filler.fill(["[MASK]", None])  # type: ignore[list-item]
    with pytest.raises(DataError, match=r"item 0 holds half a character \(a lone surrogate, U\+D83D\)"):
        filler.fill("[MASK] \ud83d")


def test_tokens_are_ranked_as_by_the_whole_softmax_and_equal_ones_by_id() -> None:
    logits = np.random.default_rng(2).normal(scale=9, size=(6, 50)).astype(np.float32)
    exact = np.exp(logits.astype(np.float64))
    exact /= exact.sum(axis=1, keepdims=True)
    for k in (1, 7, 50):
        best = rank_tokens(logits, k)
        assert best.tokens.tolist() == np.argsort(-logits, axis=1)[:, :k].tolist()
        np.testing.assert_allclose(
            best.probabilities, np.take_along_axis(exact, best.tokens, axis=1), rtol=1e-4
        )
    assert rank_tokens(np.array([[1, 2, 2, 1]], dtype=np.float32), 4).tokens.tolist() == [[1, 2, 0, 3]]
    assert rank_tokens(np.array([[1e4, 0]], dtype=np.float32), 2).probabilities.tolist() == [[1, 0]]
