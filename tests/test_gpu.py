"""What only a CUDA device can show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle

from twil.config.training import finetune_config
from twil.predict.predictor import Predictor
from twil.train.finetune import Finished, finetune
from twil.train.loop import StepDone

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
        events = list(finetune(config, tmp_path / device, device=device))
        assert isinstance(events[-1], Finished)
        return [event.loss for event in events if isinstance(event, StepDone)]

    tolerance = 1e-3 if precision == "fp32" else 5e-2
    np.testing.assert_allclose(losses("cuda", precision), losses("cpu", "fp32"), atol=tolerance)


def test_a_bundle_gives_the_same_on_cuda(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    texts = ["hola", "", "¡qué día! 😀", "adiós " * 20]
    on_cuda, on_cpu = (Predictor(bundle, provider=provider) for provider in ("cuda", "cpu"))
    assert on_cuda.session.provider == "cuda"
    np.testing.assert_allclose(on_cuda.predict_logits(texts), on_cpu.predict_logits(texts), atol=1e-4)
