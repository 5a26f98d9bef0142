"""Rows of token embeddings that no text uses are left out of training; what is learned is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hub_models import make_hub_folder
from tuning import tiny_options

import twil
from twil.config.training import finetune_config
from twil.model.text_model import TextModel
from twil.train import finetune, used_tokens
from twil.train.finetune import FinetuneFinished, FinetuneStarted, finetune_events
from twil.train.loop import Interrupted
from twil.train.used_tokens import UsedTokens, keep_used_rows

Kept = list[UsedTokens | None]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Give what each run leaves out."""
    found: Kept = []

    def noted(model: TextModel, *more: Any) -> UsedTokens | None:
        found.append(keep_used_rows(model, *more))
        return found[-1]

    monkeypatch.setattr(finetune, "keep_used_rows", noted)
    monkeypatch.setattr(used_tokens, "_LARGEST_SHARE", 0.99)  # tiny vocabularies
    return found


def run(folder: Path, output: Path, model: dict[str, Any], *overrides: str) -> FinetuneFinished:
    options = tiny_options(folder, folder / "tokenizer.json", test=True) | {"model": model}
    *_, last = finetune_events(finetune_config(None, options, ["train.precision=fp32", *overrides]), output)
    assert isinstance(last, FinetuneFinished)
    return last


@pytest.mark.parametrize("family", ["twilbert", "bert", "roberta"])
@pytest.mark.parametrize("overrides", [(), ("optimiser.weight_decay=0.5", "train.average=0.9")], ids=str)
def test_what_is_learned_is_the_same(
    family: str,
    overrides: tuple[str, ...],
    tmp_path: Path,
    tokenizer_file: Path,
    kept: Kept,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if family == "twilbert":
        shape = tiny_options(tmp_path, tokenizer_file)["model"]["encoder"]
        model = {"encoder": shape, "tokenizer": tokenizer_file}
    else:
        model = {"folder": make_hub_folder(tmp_path / "encoder", family)}
    short = run(tmp_path, tmp_path / "short", model, *overrides)
    monkeypatch.setattr(finetune, "keep_used_rows", lambda *_: None)
    whole = run(tmp_path, tmp_path / "whole", model, *overrides)
    assert kept[0] is not None
    one, other = (twil.load(result.folder) for result in (short, whole))
    assert one.token_embeddings.shape == other.token_embeddings.shape
    for name, weight in other.state_dict().items():
        torch.testing.assert_close(one.state_dict()[name], weight, rtol=1e-4, atol=1e-6, msg=name)
    assert short.test is not None
    assert whole.test is not None
    assert short.test.metrics == pytest.approx(whole.test.metrics)


def test_an_interrupted_run_goes_on_with_the_same_rows(
    tmp_path: Path, tokenizer_file: Path, kept: Kept
) -> None:
    config = finetune_config(None, tiny_options(tmp_path, tokenizer_file))
    asked: list[bool] = []
    stopped = finetune_events(
        config, tmp_path / "part", should_stop=lambda: asked.append(True) or len(asked) == 3
    )
    started, *_, last = stopped
    assert isinstance(started, FinetuneStarted)
    assert isinstance(last, Interrupted)
    *_, first = finetune_events(config, tmp_path / "part", resume=True)
    *_, second = finetune_events(config, tmp_path / "whole")
    assert isinstance(first, FinetuneFinished)
    assert isinstance(second, FinetuneFinished)
    assert None not in kept
    one, other = (twil.load(result.folder).state_dict() for result in (first, second))
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert started.parameters == sum(weight.numel() for weight in other.values())


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimiser.name=lamb",),
        ("optimiser.name=adam", "optimiser.weight_decay=0.1"),
        ("optimiser.name=sgd",),
        ("train.freeze=embeddings",),
    ],
    ids=str,
)
def test_all_rows_are_trained_where_the_rest_would_not_only_decay(
    overrides: tuple[str, ...], tmp_path: Path, tokenizer_file: Path, kept: Kept
) -> None:
    shape = tiny_options(tmp_path, tokenizer_file)["model"]["encoder"]
    run(tmp_path, tmp_path / "model", {"encoder": shape, "tokenizer": tokenizer_file}, *overrides)
    assert kept == [None]
