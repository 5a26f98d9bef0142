"""Parts of the encoder that stay as they are, or learn more slowly."""

from __future__ import annotations

from typing import Any

import pytest

from twil.config.loop import OptimiserConfig
from twil.config.model import ClassifierConfig, EncoderConfig, ModelConfig
from twil.core.errors import ConfigError
from twil.core.task import Task
from twil.model.twilbert import TWilBERT
from twil.train.layers import freeze, head_rates, layer_rates
from twil.train.optimisers import make_optimiser, set_lr


def make_model(**changes: Any) -> TWilBERT:
    shape: dict[str, Any] = {"vocab_size": 20, "hidden_size": 8, "n_layers": 4, "n_heads": 2, "head_size": 4}
    encoder = EncoderConfig(**shape | changes)
    return TWilBERT(
        ModelConfig(encoder=encoder, classifier=ClassifierConfig(), task=Task("class", ("a", "b")))
    )


def frozen(model: TWilBERT) -> set[str]:
    names = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {".".join(name.split(".")[1:3]) if ".blocks." in name else name.split(".")[1] for name in names}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ("embeddings", {"embeddings"}),
        ("embeddings,0-1", {"embeddings", "blocks.0", "blocks.1"}),
        (" 3 , 1", {"blocks.1", "blocks.3"}),
        ("0-3", {"blocks.0", "blocks.1", "blocks.2", "blocks.3"}),
    ],
)
def test_named_parts_are_frozen_and_no_others(parts: str, expected: set[str]) -> None:
    model = make_model()
    freeze(model, parts)
    assert frozen(model) == expected
    assert all(parameter.requires_grad for parameter in model.classifier.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("parts", ["4", "2-1", "0-9", "head", "", "embeddings,,1", "-1"])
def test_a_part_that_there_is_not_is_refused(parts: str) -> None:
    with pytest.raises(ConfigError, match=r"this encoder has embeddings and the layers 0 to 3"):
        freeze(make_model(), parts)


def test_layers_that_share_their_weights_are_frozen_together_or_not_at_all() -> None:
    model = make_model(share_layers=True)
    with pytest.raises(ConfigError, match="share their weights"):
        freeze(model, "0-2")
    assert frozen(model) == set()
    freeze(model, "embeddings,0-3")
    assert frozen(model) == {"embeddings", "blocks.0"}
    with pytest.raises(ConfigError, match="share their weights"):
        layer_rates(make_model(share_layers=True), 0.9)


def test_rates_become_smaller_downwards_by_the_same_factor() -> None:
    model = make_model()
    optimiser = make_optimiser(model, OptimiserConfig(), lr=1.0, rates=layer_rates(model, 0.5))
    set_lr(optimiser, 0.8)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(entry)]: group["lr"] for group in optimiser.param_groups for entry in group["params"]}
    assert rates["classifier.output.weight"] == pytest.approx(0.8)
    assert rates["encoder.blocks.3.output_norm.weight"] == pytest.approx(0.4)
    assert rates["encoder.blocks.0.output_norm.weight"] == pytest.approx(0.05)
    assert rates["encoder.embeddings.token.weight"] == pytest.approx(0.025)
    assert len(rates) == len(names)
    optimiser = make_optimiser(
        model, OptimiserConfig(), lr=1.0, rates=layer_rates(model, 0.5) | head_rates(model, 10.0)
    )
    quick = {names[id(entry)]: group["lr"] for group in optimiser.param_groups for entry in group["params"]}
    assert {name: rate / rates[name] * 0.8 for name, rate in quick.items() if "classifier" in name} == {
        "classifier.output.weight": pytest.approx(10),
        "classifier.output.bias": pytest.approx(10),
    }
    assert all(quick[name] == pytest.approx(rates[name] / 0.8) for name in rates if "classifier" not in name)
    decays = {
        names[id(entry)]: group["weight_decay"]
        for group in optimiser.param_groups
        for entry in group["params"]
    }
    assert decays["encoder.blocks.0.output_norm.weight"] == 0
    assert decays["encoder.blocks.0.feed_forward.up.weight"] > 0
