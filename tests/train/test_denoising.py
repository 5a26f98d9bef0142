"""The objective of pretraining: what it sums, over what it divides, and that layouts do not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from corpora import SHAPE, make_corpus, tiny_run

from twil.config.loop import OptimiserConfig
from twil.config.model import EncoderConfig, MemoryConfig, ModelConfig, RopConfig
from twil.config.pretraining import MaskingConfig, PretrainLoopConfig
from twil.data.corpus.corpus import Part, open_corpus
from twil.data.samples import NO_ORDER, NOT_MASKED, Samples, TokenRows, frame_texts
from twil.model.twilbert import TWilBERT
from twil.train.checkpoint import CheckpointFolder
from twil.train.distributed import World
from twil.train.loop import Step, Trainer
from twil.train.objectives import denoising
from twil.train.objectives.denoising import (
    MASKED_GRAIN,
    SUMS,
    TOKENS_GRAIN,
    Denoising,
    DenoisingBatch,
    DenoisingNetwork,
)
from twil.train.optimisers import make_optimiser


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory, examples: Path, tokenizer_file: Path) -> Samples:
    folder = make_corpus(examples, tokenizer_file, tmp_path_factory.mktemp("corpus") / "corpus")
    return Samples(open_corpus(folder).train, MaskingConfig(), vocab_size=600, rop=True, seed=1)


def make_model(**shape: Any) -> TWilBERT:
    torch.manual_seed(0)
    encoder = EncoderConfig(vocab_size=600, **SHAPE, **shape)
    return TWilBERT(ModelConfig(encoder=encoder, mlm=True, rop=RopConfig()))


def objective_of(samples: Samples, dev: Samples | None = None, **options: Any) -> Denoising:
    config = PretrainLoopConfig(lr=1e-3, warmup=0, **{"precision": "fp32", **options})
    return Denoising(make_model(), samples, dev, config, dev_rows=60, world=World())


def gradients_of(objective: Denoising, batches: list[TokenRows], folder: Path) -> dict[str, torch.Tensor]:
    """Run a step's backward pass and give its gradients."""
    step = objective._step(batches)
    trainer = Trainer(
        objective,
        objective.config,
        optimiser=make_optimiser(objective.model, OptimiserConfig(weight_decay=0), lr=1e-3),
        steps=1,
        checkpoints=CheckpointFolder(folder),
        fingerprint={},
    )
    trainer._backward(Step(step.batches, step.counts), step.counts)
    return {name: p.grad.clone() for name, p in objective.model.named_parameters() if p.grad is not None}


def test_sums_are_those_of_the_whole_head_on_each_row_by_itself(samples: Samples) -> None:
    rows = samples.draw(1, 0, 24)
    model = make_model().eval()
    sums = DenoisingNetwork(model, rop=True)(DenoisingBatch.of(rows, packed=True))
    wanted = dict.fromkeys(SUMS, 0.0)
    for row in range(len(rows)):
        one = rows.take(np.array([row]))
        ids, segments, targets = (
            torch.from_numpy(field)[None] for field in (one.input_ids, one.segment_ids, one.targets)
        )
        hidden = model.encode(ids, torch.ones_like(ids), segments)
        logits = model.mlm_logits(hidden)[0]
        masked = targets[0] != NOT_MASKED
        wanted["mlm_loss"] += F.cross_entropy(logits[masked], targets[0][masked], reduction="sum").item()
        wanted["mlm_right"] += (logits.argmax(-1)[masked] == targets[0][masked]).sum().item()
        if one.order[0] != NO_ORDER:
            order = model.rop_logits(hidden)
            label = torch.from_numpy(one.order)
            wanted["rop_loss"] += F.cross_entropy(order, label).item()
            wanted["rop_right"] += (order.argmax(-1) == label).sum().item()
    assert dict(zip(SUMS, sums.tolist(), strict=True)) == pytest.approx(wanted, rel=1e-5)


def test_packed_and_padded_layouts_give_the_same_sums_and_gradients(samples: Samples) -> None:
    rows = samples.draw(2, 0, 40)
    found = []
    for packed in (True, False):
        model = make_model()
        sums = DenoisingNetwork(model, rop=True)(DenoisingBatch.of(rows, packed=packed))
        (sums[0] + sums[2]).backward()
        found.append((sums.detach(), [p.grad for p in model.parameters()]))
    torch.testing.assert_close(found[0][0], found[1][0])
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_filling_a_batch_up_changes_no_sum_gradient_or_statistic(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = samples.draw(1, 0, 21)
    memory = MemoryConfig(layers=(1,), n_heads=2, n_keys=6, key_size=8, knn=3, query_norm=True)
    found = []
    for tokens, masked in ((1, 1), (TOKENS_GRAIN, MASKED_GRAIN), (500, 300)):
        monkeypatch.setattr(denoising, "TOKENS_GRAIN", tokens)
        monkeypatch.setattr(denoising, "MASKED_GRAIN", masked)
        batch = DenoisingBatch.of(rows, packed=True)
        assert len(batch.input_ids) % tokens == len(batch.masked) % masked == 0
        model = make_model(memory=memory).double().train()
        sums = DenoisingNetwork(model, rop=True)(batch)
        (sums[0] + sums[2]).backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        found.append((len(batch.input_ids), sums.detach(), gradients, dict(model.named_buffers())))
    sizes, sums, gradients, buffers = zip(*found, strict=True)
    assert sizes[0] == rows.lengths.sum() < sizes[1] < sizes[2]
    for other in (1, 2):
        torch.testing.assert_close(sums[other], sums[0])
        torch.testing.assert_close(gradients[other], gradients[0], atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(buffers[other], buffers[0])


def test_without_reply_order_its_head_is_left_alone(samples: Samples) -> None:
    rows = samples.draw(1, 0, 12)
    model = make_model()
    batch = DenoisingBatch.of(rows, packed=True)
    sums = DenoisingNetwork(model, rop=False)(batch)
    assert sums[:2].tolist() == DenoisingNetwork(model, rop=True)(batch)[:2].tolist()
    assert sums[2:].tolist() == [0, 0]
    sums.sum().backward()
    assert model.rop is not None
    assert all(p.grad is None for p in model.rop.parameters())


def test_the_language_head_sees_masked_tokens_alone_in_few_sizes(samples: Samples) -> None:
    rows = samples.draw(1, 0, 33)
    batch = DenoisingBatch.of(rows, packed=True)
    assert len(batch.input_ids) % TOKENS_GRAIN == 0
    assert len(batch.masked) % MASKED_GRAIN == 0
    assert int((batch.targets != NOT_MASKED).sum()) == rows.masked
    assert len(batch.masked) - rows.masked < MASKED_GRAIN
    model, seen = make_model(), []
    assert model.mlm is not None
    model.mlm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[0]))
    DenoisingNetwork(model, rop=True)(batch)
    assert seen == [len(batch.masked)]


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_gradients_of_one_batch_are_those_of_four(samples: Samples, tmp_path: Path, packed: bool) -> None:
    # With different numbers of masked tokens and of orders: a mean of means would be another number.
    rows = samples.draw(1, 0, 8)
    assert 0 < rows.ordered < 8
    whole = gradients_of(objective_of(samples, clip=0.0, packed=packed), [rows], tmp_path)
    parts = [rows.take(np.array([index, index + 1])) for index in range(0, 8, 2)]
    accumulated = gradients_of(objective_of(samples, clip=0.0, packed=packed), parts, tmp_path)
    assert whole.keys() == accumulated.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(accumulated[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("lacking", ["order", "masks", "rows"])
def test_a_step_that_lacks_something_gives_every_parameter_a_finite_gradient(
    samples: Samples, tmp_path: Path, lacking: str
) -> None:
    rows = samples.draw(1, 0, 6)
    if lacking == "order":
        rows = TokenRows(
            rows.input_ids, rows.segment_ids, rows.targets, rows.lengths, np.full_like(rows.order, NO_ORDER)
        )
    if lacking == "masks":  # a text of nothing but unknown tokens
        rows = frame_texts(np.ones(4, np.int64), np.array([4]))
    objective = objective_of(samples)
    gradients = gradients_of(objective, [] if lacking == "rows" else [rows], tmp_path)
    assert gradients.keys() == {name for name, _ in objective.model.named_parameters()}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    if lacking in ("masks", "rows"):
        assert not any(gradient.any() for gradient in gradients.values())


def test_evaluation_is_the_same_each_time_in_any_batches_and_leaves_training_on(samples: Samples) -> None:
    objective = objective_of(samples, samples)
    objective.model.train()
    first = objective.evaluate()
    assert objective.model.training
    torch.manual_seed(99)
    assert objective.evaluate() == first
    assert first["perplexity"] == pytest.approx(np.exp(first["mlm_loss"]))
    assert first["loss"] == pytest.approx(first["mlm_loss"] + first["rop_loss"])
    for options in ({"batch_tokens": 130}, {"packed": False}):
        assert objective_of(samples, samples, **options).evaluate() == pytest.approx(first, rel=1e-5)


def test_evaluation_on_single_texts_says_nothing_of_their_order(samples: Samples) -> None:
    texts = Samples(Part(None, samples.part.texts), MaskingConfig(), vocab_size=600, rop=True, seed=1)
    found = objective_of(samples, texts).evaluate()
    assert found.keys() == {"loss", "mlm_loss", "mlm_accuracy", "perplexity"}
    assert found["loss"] == found["mlm_loss"]
    assert objective_of(samples).evaluate() == {}  # nothing is held out


def test_an_epoch_is_made_step_by_step(samples: Samples) -> None:
    objective = objective_of(samples, batch_rows=50, batch_tokens=400)
    steps = objective.epoch(3)
    last = steps[len(steps) - 1]
    assert last.counts["rows"] == len(samples) - 50 * (len(steps) - 1)
    whole = [steps[number].counts for number in range(len(steps))]
    assert sum(counts["rows"] for counts in whole) == len(samples)
    for counts in whole:
        assert counts["masked"] >= 0.15 * (counts["tokens"] - 3 * counts["rows"]) * 0.9


def test_a_run_without_an_own_rate_takes_that_of_its_schedule() -> None:
    from twil.train.pretraining import resolve

    linear = resolve(PretrainLoopConfig(), 1000, 768)
    assert (linear.lr, linear.warmup) == (1e-3, 60.0)
    noam = resolve(PretrainLoopConfig(schedule="noam", warmup=8000), 110_000, 768)
    assert noam.lr == pytest.approx(768**-0.5 * 8000**-0.5)
    own = resolve(PretrainLoopConfig(schedule="noam", warmup=8000, lr=1e-4), 110_000, 768)
    assert own.lr == 1e-4


def test_a_model_folder_given_as_an_option_takes_the_place_of_the_shape(tmp_path: Path) -> None:
    from twil.config.pretraining import pretrain_config

    value = {"data": {"corpus": tmp_path}, "model": {"init": "base", "encoder": {"n_layers": 3}}}
    config = pretrain_config(value, {"model": {"folder": tmp_path}})
    assert (config.model.folder, config.model.init, config.model.encoder) == (tmp_path, None, {})
    assert tiny_run(tmp_path).model.encoder == SHAPE
