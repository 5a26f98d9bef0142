"""What only a CUDA device can show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import write_bundle

from twil.bundle.providers import Provider
from twil.config.model import EncoderConfig, ModelConfig
from twil.config.pretraining import pretrain_config
from twil.config.training import finetune_config
from twil.data.corpus.build import CorpusOptions, build_corpus
from twil.exporting.bundle import export_onnx
from twil.inference.predictor import Predictor
from twil.model.packing import Packing
from twil.model.twilbert import TWilBERT
from twil.train.finetune import FinetuneFinished, finetune_events
from twil.train.loop import StepDone
from twil.train.pretraining import PretrainingFinished, pretrain_events

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_on_cuda_follows_training_on_the_cpu(
    examples: Path, tokenizer_file: Path, tmp_path: Path, precision: str
) -> None:
    def losses(device: str, precision: str) -> list[float]:
        config = finetune_config(
            None,
            {
                "data": {"train": examples / "tweets_train.tsv", "dev": examples / "tweets_dev.tsv"},
                "model": {"init": "tiny", "tokenizer": tokenizer_file, "classifier": {"dropout": 0.0}},
                "train": {"epochs": 1, "precision": precision},
            },
        )
        events = list(finetune_events(config, tmp_path / device, device=device))
        assert isinstance(events[-1], FinetuneFinished)
        return [event.loss for event in events if isinstance(event, StepDone)]

    tolerance = 1e-3 if precision == "fp32" else 5e-2
    np.testing.assert_allclose(losses("cuda", precision), losses("cpu", "fp32"), atol=tolerance)


@pytest.mark.parametrize("lengths", [[7], [64, 64, 64], [130, 61, 61, 17, 3, 1]])
def test_packed_rows_attend_on_cuda_as_padded_rows_do(lengths: list[int]) -> None:
    torch.manual_seed(0)
    encoder = EncoderConfig(vocab_size=200, hidden_size=128, n_layers=2, n_heads=2, head_size=64)
    model = TWilBERT(ModelConfig(encoder=encoder, mlm=True)).cuda()
    ids = torch.randint(5, 200, (sum(lengths),), device="cuda")
    rows = torch.nn.utils.rnn.pad_sequence(list(ids.split(lengths)), batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence(
        [torch.ones(length, dtype=torch.int64, device="cuda") for length in lengths], batch_first=True
    )
    with torch.autocast("cuda", dtype=torch.bfloat16):
        packed = model.encode_packed(ids, torch.zeros_like(ids), Packing.of(lengths, "cuda"))
        padded = model.encode(rows, mask)[mask.bool()]
    torch.testing.assert_close(packed.float(), padded.float(), atol=5e-2, rtol=5e-2)
    packed.float().sum().backward()
    gradient = model.encoder.blocks[0].attention.query_key_value.weight.grad
    assert gradient is not None
    assert gradient.isfinite().all()


@pytest.mark.parametrize("settings", [(), ("train.packed=false",), ("train.compile=true",)])
def test_pretraining_on_cuda_follows_pretraining_on_the_cpu(
    examples: Path, tokenizer_file: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    list(build_corpus([examples / "pairs.tsv"], tmp_path / "corpus", tokenizer_file, CorpusOptions(dev=0.1)))

    def losses(device: str, precision: str) -> list[float]:
        config = pretrain_config(
            {"data": {"corpus": tmp_path / "corpus"}, "model": {"init": "tiny"}},
            {"train": {"steps": 8, "batch_rows": 32, "precision": precision}},
            settings if device == "cuda" else (),
        )
        events = list(pretrain_events(config, tmp_path / device, device=device))
        assert isinstance(events[-1], PretrainingFinished)
        return [event.loss for event in events if isinstance(event, StepDone)]

    np.testing.assert_allclose(losses("cuda", "bf16"), losses("cpu", "fp32"), atol=5e-2)


@pytest.mark.parametrize("provider", ["cuda", "cuda-graphs", "tensorrt"])
def test_a_bundle_gives_the_same_on_a_gpu(tmp_path: Path, provider: Provider) -> None:
    if provider == "tensorrt":
        pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    bundle = write_bundle(tmp_path / "bundle")
    texts = ["hola", "", "¡qué día! 😀", "adiós " * 20]
    on_gpu, on_cpu = (Predictor(bundle, provider=one, batch_tokens=64) for one in (provider, "cpu"))
    assert on_gpu.session.provider == provider
    for turn in range(6):  # the same shapes with other texts
        given = [f"{text}{letter}" for text in texts for letter in "abc"[: 1 + turn % 3]]
        np.testing.assert_allclose(on_gpu.predict_logits(given), on_cpu.predict_logits(given), atol=1e-4)


@pytest.mark.parametrize("optimised", [False, True])
def test_cuda_graphs_of_a_real_encoder_give_what_plain_runs_give(
    examples: Path, tokenizer_file: Path, tmp_path: Path, optimised: bool
) -> None:
    data = {"train": examples / "tweets_train.tsv", "dev": examples / "tweets_dev.tsv"}
    config = finetune_config(
        None,
        {
            "data": data,
            "model": {"init": "tiny", "tokenizer": tokenizer_file},
            "train": {"epochs": 1},
        },
    )
    assert isinstance(list(finetune_events(config, tmp_path / "model", device="cpu"))[-1], FinetuneFinished)
    export_onnx(tmp_path / "model", tmp_path / "bundle", optimize=optimised)
    texts = [line.split("\t")[1] for line in data["train"].read_text(encoding="utf-8").splitlines()[1:]]
    replayed, plain = (Predictor(tmp_path / "bundle", provider=one) for one in ("cuda-graphs", "cuda"))
    for _ in range(3):
        np.testing.assert_allclose(replayed.predict_logits(texts), plain.predict_logits(texts), atol=1e-4)
