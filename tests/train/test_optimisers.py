"""Optimisers and schedules compute what the papers and the original do, on every tensor.

`data/original/optimizers.npz` holds two tensors, twelve gradients of each, and what the original's
optimisers and its schedule made of them. Where the whole set of reference data lies beside the checkout,
twelve steps of training the original's tiny model are compared too.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from twil.config.loop import OptimiserConfig, Schedule, noam_peak
from twil.config.model import EncoderConfig, MemoryConfig, ModelConfig
from twil.core.errors import ConfigError
from twil.model.memory import ProductKeyMemory
from twil.model.original import import_original, keras_order
from twil.model.twilbert import TWilBERT
from twil.train.optimisers import Lamb, TwilbertAdam, make_optimiser, rate, set_lr

ORIGINAL = np.load(Path(__file__).parents[1] / "data" / "original" / "optimizers.npz")
OWN: list[type[torch.optim.Optimizer]] = [TwilbertAdam, Lamb]

Array = NDArray[np.float64]


def tensors() -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(ORIGINAL[name])) for name in ("p1", "p2")]


def clipped(gradients: list[Array]) -> list[Array]:
    norm = np.sqrt(sum(np.square(gradient).sum() for gradient in gradients))
    return [gradient / max(norm, 1.0) for gradient in gradients]


def gradients(accumulation: int, *, clip: bool) -> list[list[Array]]:
    """The gradients of each optimiser step: means of those of its micro-batches."""
    micro = [[ORIGINAL["g1"][i].astype(float), ORIGINAL["g2"][i].astype(float)] for i in range(12)]
    micro = [clipped(pair) if clip else pair for pair in micro]
    steps = [micro[start : start + accumulation] for start in range(0, 12, accumulation)]
    return [[np.mean(tensor, axis=0) for tensor in zip(*step, strict=True)] for step in steps]


def follow(
    optimiser: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: list[list[Array]]
) -> list[list[Array]]:
    """Take the steps; return the values of all parameters after each."""
    values = []
    for step in steps:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = torch.tensor(gradient, dtype=torch.float32)
        optimiser.step()
        values.append([parameter.detach().double().numpy().copy() for parameter in parameters])
    return values


def lamb_in_float64(
    start: list[Array], steps: list[list[Array]], *, lr: float, decay: float, eps: float = 1e-6
) -> list[list[Array]]:
    values: list[list[Array]] = [[] for _ in steps]
    for index, value in enumerate(start):
        mean, square = np.zeros_like(value), np.zeros_like(value)
        for number, step in enumerate(steps, 1):
            mean = 0.9 * mean + 0.1 * step[index]
            square = 0.999 * square + 0.001 * step[index] ** 2
            update = mean / (1 - 0.9**number) / (np.sqrt(square / (1 - 0.999**number)) + eps) + decay * value
            value = value - lr * np.sqrt((value**2).sum() / (update**2).sum()) * update
            values[number - 1].append(value)
    return values


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize(("case", "lr"), [("adam", 1e-4), ("adam_lr1e-2", 1e-2)])
def test_adam_is_the_original_s(case: str, lr: float, accumulation: int) -> None:
    parameters = tensors()
    steps = follow(TwilbertAdam(parameters, lr=lr), parameters, gradients(accumulation, clip=False))
    for index, name in enumerate(("p1", "p2")):
        expected = ORIGINAL[f"{case}_accum{accumulation}_{name}"][accumulation - 1 :: accumulation]
        np.testing.assert_allclose([step[index] for step in steps], expected, atol=3e-7, rtol=0)


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize(
    ("case", "lr", "decay"), [("lamb", 1.76e-3, 0.0), ("lamb_lr1e-2_wd0.01", 1e-2, 0.01)]
)
def test_lamb_is_the_original_s_on_its_first_tensor_and_the_paper_s_on_all(
    case: str, lr: float, decay: float, accumulation: int
) -> None:
    parameters = tensors()
    start = [parameter.detach().double().numpy().copy() for parameter in parameters]
    steps = gradients(accumulation, clip=True)
    found = follow(Lamb(parameters, lr=lr, weight_decay=decay), parameters, steps)
    expected = ORIGINAL[f"{case}_accum{accumulation}_p1"][accumulation - 1 :: accumulation]
    np.testing.assert_allclose([step[0] for step in found], expected, atol=3e-7, rtol=0)
    # TWilBERT: the original leaves every tensor but the first as it is.
    stuck = ORIGINAL[f"{case}_accum{accumulation}_p2"]
    np.testing.assert_array_equal(stuck, np.broadcast_to(ORIGINAL["p2"], stuck.shape))
    paper = lamb_in_float64(start, steps, lr=lr, decay=decay)
    for index in range(2):
        np.testing.assert_allclose(
            [step[index] for step in found], [step[index] for step in paper], atol=3e-7, rtol=0
        )


def test_lamb_moves_tensors_without_a_norm_and_leaves_those_without_an_update() -> None:
    zero, still = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(2))
    zero.grad, still.grad = torch.tensor([1.0, -2.0, 0.5]), torch.zeros(2)
    Lamb([zero, still], lr=0.1, weight_decay=0).step()
    torch.testing.assert_close(zero.detach(), torch.tensor([-0.1, 0.1, -0.1]), atol=1e-6, rtol=0)
    torch.testing.assert_close(still.detach(), torch.ones(2), atol=0, rtol=0)


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_a_step_of_lamb_does_not_depend_on_the_scale_of_the_gradients(factor: float) -> None:
    values = []
    for scale in (1.0, factor):
        parameters = tensors()
        steps = [[scale * gradient for gradient in step] for step in gradients(1, clip=False)]
        values.append(follow(Lamb(parameters, lr=0.01, eps=1e-12), parameters, steps)[-1])
    for one, other in zip(*values, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("kind", OWN)
def test_a_run_that_is_resumed_from_its_state_goes_on_exactly(
    kind: Callable[..., torch.optim.Optimizer],
) -> None:
    steps = gradients(1, clip=False)
    whole = tensors()
    expected = follow(kind(whole, lr=0.01), whole, steps)[-1]
    first = tensors()
    optimiser = kind(first, lr=0.01)
    follow(optimiser, first, steps[:5])
    file = io.BytesIO()
    torch.save(optimiser.state_dict(), file)
    file.seek(0)
    second = [nn.Parameter(parameter.detach().clone()) for parameter in first]
    resumed = kind(second, lr=0.5)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for found, value in zip(follow(resumed, second, steps[5:])[-1], expected, strict=True):
        np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("kind", OWN)
def test_a_parameter_without_a_gradient_stays_and_starts_counting_when_it_has_one(
    kind: Callable[..., torch.optim.Optimizer],
) -> None:
    early, late = tensors()
    optimiser = kind([early, late], lr=0.01)
    early.grad = torch.ones_like(early)
    optimiser.step()
    np.testing.assert_array_equal(late.detach(), ORIGINAL["p2"])
    late.grad = torch.ones_like(late)
    optimiser.step()
    alone = tensors()[1]
    alone.grad = torch.ones_like(alone)
    kind([alone], lr=0.01).step()
    torch.testing.assert_close(late, alone, atol=0, rtol=0)


def tiny_model() -> TWilBERT:
    memory = MemoryConfig(layers=(1,), n_heads=2, n_keys=4, key_size=4, knn=2)
    encoder = EncoderConfig(
        vocab_size=30, hidden_size=8, n_layers=2, n_heads=2, head_size=4, intermediate_size=16, memory=memory
    )
    return TWilBERT(ModelConfig(encoder=encoder, mlm=True))


@pytest.mark.parametrize("name", ["adamw", "lamb", "twilbert-adam", "sgd", "Adagrad", "NAdam", "RMSProp"])
def test_every_trainable_parameter_is_in_one_group_and_learns(name: str) -> None:
    model = tiny_model()
    model.encoder.embeddings.position.weight.requires_grad_(False)
    optimiser = make_optimiser(model, OptimiserConfig(name=name), lr=0.01)
    grouped = [id(parameter) for group in optimiser.param_groups for parameter in group["params"]]
    trainable = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == trainable
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    optimiser.step()
    same = [key for key, value in model.state_dict().items() if torch.equal(value, before[key])]
    assert same == ["encoder.embeddings.position.weight"]


@pytest.mark.parametrize("name", ["adamw", "lamb", "sgd"])
def test_biases_and_norms_do_not_decay(name: str) -> None:
    model = tiny_model()
    optimiser = make_optimiser(model, OptimiserConfig(name=name, weight_decay=0.3), lr=0.01)
    decays = {p: group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    for parameter in model.parameters():
        assert decays[parameter] == (0.3 if parameter.dim() > 1 else 0.0)


def test_options_left_out_are_the_optimiser_s_own() -> None:
    given = make_optimiser(tiny_model(), OptimiserConfig(betas=(0.8, 0.95), eps=1e-5), lr=0.01)
    assert {(group["betas"], group["eps"]) for group in given.param_groups} == {((0.8, 0.95), 1e-5)}
    own = make_optimiser(tiny_model(), OptimiserConfig(name="ADAMW"), lr=0.01)
    assert [group["weight_decay"] for group in own.param_groups] == [0.01, 0.0, 0.01]
    lamb = make_optimiser(tiny_model(), OptimiserConfig(name="lamb"), lr=0.01)
    assert {(group["eps"], group["weight_decay"]) for group in lamb.param_groups} == {(1e-6, 0.0)}
    adam = make_optimiser(tiny_model(), OptimiserConfig(name="twilbert-adam", weight_decay=0), lr=0.01)
    assert {(group["betas"], group["eps"]) for group in adam.param_groups} == {((0.9, 0.98), 1e-6)}


@pytest.mark.parametrize("name", ["adamw", "lamb", "twilbert-adam"])
def test_tables_of_values_learn_at_their_own_rate(name: str) -> None:
    model = tiny_model()
    optimiser = make_optimiser(model, OptimiserConfig(name=name, memory_rate=4), lr=0.01)
    (values,) = (module.values for module in model.modules() if isinstance(module, ProductKeyMemory))
    for lr in (None, 0.1, 0.002):
        if lr is not None:
            set_lr(optimiser, lr)
        for group in optimiser.param_groups:
            own = any(parameter is values for parameter in group["params"])
            assert own == (group["rate"] == 4)
            assert len(group["params"]) == 1 or not own
            assert group["lr"] == pytest.approx((lr or 0.01) * (4 if own else 1))


def test_a_rate_of_memories_is_refused_where_there_are_none() -> None:
    plain = torch.nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=r"^optimiser\.memory_rate would have no effect: only with product"):
        make_optimiser(plain, OptimiserConfig(memory_rate=0.5), lr=0.01)
    make_optimiser(plain, OptimiserConfig(memory_rate=1), lr=0.01)


def test_adamw_of_a_fine_tuning_run_carries_rates_too() -> None:
    optimiser = make_optimiser(tiny_model(), OptimiserConfig(weight_decay=0.2), lr=0.01)
    set_lr(optimiser, 0.5)
    assert {group["lr"] for group in optimiser.param_groups} == {0.5}
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.2, 0.0, 0.2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "adamm"},
            r"there is no optimiser 'adamm': choose one of .*adamw.*lamb.*sgd.*twilbert-adam",
        ),
        ({"name": "optimizer"}, "there is no optimiser 'optimizer'"),
        ({"name": "LBFGS"}, "LBFGS computes the loss several times a step.*take another"),
        ({"name": "SparseAdam"}, "SparseAdam takes sparse gradients alone"),
        ({"name": "sgd", "betas": (0.9, 0.99)}, "the optimiser sgd has no betas: leave it out"),
        ({"name": "twilbert-adam", "weight_decay": 0.1}, "twilbert-adam has no weight_decay"),
        ({"name": "sgd", "betas": (0.9, 0.99), "eps": 1e-3}, "sgd has no betas and no eps"),
        ({"name": "adamw", "betas": (0.9, 1.5)}, "adamw cannot be made: Invalid beta"),
        ({"name": "lamb", "betas": (0.9, 1.0)}, "betas are shares from 0 up to, not including, 1"),
        ({"name": "twilbert-adam", "betas": (-0.1, 0.9)}, "betas are shares.*not -0.1 and 0.9"),
    ],
)
def test_what_is_no_optimiser_of_the_model_is_one_clear_error(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_optimiser(tiny_model(), OptimiserConfig.model_validate(options), lr=0.01)


def test_every_optimiser_of_torch_trains_or_is_refused() -> None:
    kinds = {
        name
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    }
    refused = set()
    for name in kinds:
        model = tiny_model()
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        try:
            make_optimiser(model, OptimiserConfig(name=name), lr=0.01).step()
        except ConfigError:
            refused.add(name)
    # Muon takes matrices alone, and is not in every release of torch.
    assert refused - {"Muon"} == {"Optimizer", "LBFGS", "SparseAdam"}


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("schedule", ["noam", "lr1e-3", "lr1e-4"])
def test_twelve_steps_of_training_are_the_original_s(shared: Path, schedule: str, accumulation: int) -> None:
    case = shared / "fixtures" / "base_like"
    reference = np.load(case / "train_reference.npz")
    model = import_original(case / "weights.hdf5", case / "config.json", case.parent / "vocab_small").model
    optimiser = make_optimiser(model.train(), OptimiserConfig(name="twilbert-adam"), lr=1e-4)
    losses = []
    for index in range(12):
        losses.append(pretraining_losses(model, reference, index % 4))
        (losses[-1][0] / accumulation).backward()  # type: ignore[no-untyped-call]
        step, rest = divmod(index + 1, accumulation)
        if rest == 0:
            set_lr(optimiser, float(schedule[2:]) if schedule != "noam" else original_noam(step))
            optimiser.step()
            optimiser.zero_grad()
    key = f"accum{accumulation}_{schedule}"
    found = [[loss.item() for loss in step] for step in losses]
    # Weights that differ by 1e-7 of themselves move these losses by up to 2e-6.
    np.testing.assert_allclose(found, reference[f"{key}_metrics"][:, :3], atol=6e-6, rtol=0)
    weights = [weight.detach() for _, weight in keras_order(dict(model.named_parameters()), model.config)]
    finals = [name for name in reference if name.startswith(f"{key}_final_w")]
    assert len(finals) == 7
    for name in finals:
        np.testing.assert_allclose(weights[int(name[-3:])], reference[name], atol=5e-6, rtol=0)


def pretraining_losses(model: TWilBERT, reference: np.lib.npyio.NpzFile, batch: int) -> list[Tensor]:
    """The whole loss, that of reply order and that of masked tokens."""
    ids, segments, labels, order = (
        torch.tensor(reference[f"batch{batch}_{name}"], dtype=torch.long)
        for name in ("tokens", "segments", "mlm", "rop")
    )
    hidden, labels = model.encode(ids, torch.ones_like(ids), segments), labels[..., 0]
    mlm = functional.cross_entropy(model.mlm_logits(hidden[labels != 0]), labels[labels != 0])
    rop = functional.cross_entropy(model.rop_logits(hidden), order)
    return [mlm + rop, rop, mlm]


def original_noam(step: int) -> float:
    """The original's rate, whose first step is not scheduled: those after it are one step behind."""
    return 1e-4 if step == 1 else noam_peak(48, 10) * rate("noam", step - 1, warmup=10, steps=12)


@pytest.mark.parametrize("start", [0, 100])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_paper_s_schedule_is_the_original_s(accumulation: int, start: int) -> None:
    rates = ORIGINAL[f"noam_w8_h48_accum{accumulation}_init{start}_after"][accumulation - 1 :: accumulation]
    found = [
        noam_peak(48, 8) * rate("noam", start // accumulation + step, warmup=8, steps=10_000)
        for step in range(1, len(rates) + 1)
    ]
    np.testing.assert_allclose(found, rates, rtol=1e-6)


def test_schedules_rise_to_the_peak_and_fall_as_they_say() -> None:
    for schedule in ("linear", "cosine", "noam", "constant"):
        risen = [rate(schedule, step, warmup=4, steps=20) for step in range(1, 5)]
        assert risen == [0.25, 0.5, 0.75, 1.0]
    falls: dict[Schedule, dict[int, float]] = {
        # Halfway from the peak, step 4, to the step after the last one, 21, lies 12.5.
        "linear": {12: 9 / 17, 13: 8 / 17, 20: 1 / 17, 21: 0.0, 30: 0.0},
        "cosine": {8: 0.5 * (1 + np.cos(np.pi * 4 / 17)), 20: 0.5 * (1 - np.cos(np.pi / 17)), 30: 0.0},
        "noam": {16: 0.5, 36: 1 / 3},
        "constant": {20: 1.0, 30: 1.0},
    }
    for name, points in falls.items():
        for step, share in points.items():
            assert rate(name, step, warmup=4, steps=20) == pytest.approx(share)


def test_no_schedule_needs_a_warm_up() -> None:
    for schedule in ("linear", "cosine", "noam", "constant"):
        shares = [rate(schedule, step, warmup=0, steps=9) for step in range(1, 10)]
        assert all(0 < share <= 1 for share in shares)
        assert shares == sorted(shares, reverse=True)
    assert noam_peak(48, 0) == noam_peak(48, 1)
