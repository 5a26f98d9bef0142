"""Optimisers by name, with weight decay and learning rates where they belong."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from twil.config.loop import OptimiserConfig, Schedule
from twil.core.errors import ConfigError, first_line
from twil.model.memory import ProductKeyMemory


def make_optimiser(
    model: nn.Module, config: OptimiserConfig, *, lr: float, rates: Mapping[str, float] | None = None
) -> Optimizer:
    """Make the optimiser of a model.

    Biases and norms, the parameters with one axis, do not decay. The value tables of product-key memories
    are a group of their own, with their own learning rate. Every group's key `rate` is its learning rate as
    a multiple of the run's: see `set_lr`.

    Args:
        model: Its trainable parameters are taken.
        config: Which optimiser, and its options.
        lr: The run's learning rate.
        rates: Learning rates of parameters by name, as multiples of the others'.

    Raises:
        ConfigError: There is no such optimiser, it cannot train this model, or an option is for
            nothing that it or the model has.
    """
    kind = _find(config.name)
    takes = inspect.signature(kind).parameters
    options = {
        key: value for key in ("betas", "eps", "weight_decay") if (value := getattr(config, key)) is not None
    }
    if config.weight_decay == 0 and "weight_decay" not in takes:
        del options["weight_decay"]  # which is what such an optimiser does
    if unknown := sorted(options.keys() - takes.keys()):
        raise ConfigError(f"the optimiser {config.name} has no {' and no '.join(unknown)}: leave it out")
    if kind in (torch.optim.AdamW, torch.optim.Adam):
        options["fused"] = True
    groups = _groups(model, memory_rate=config.memory_rate, rates=rates or {}, decays="weight_decay" in takes)
    try:
        optimiser = kind(groups, lr=lr, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"the optimiser {config.name} cannot be made: {first_line(error)}") from error
    set_lr(optimiser, lr)
    return optimiser


def set_lr(optimiser: Optimizer, lr: float) -> None:
    """Set the learning rate of a run, of which every group takes its multiple."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["rate"]


class TwilbertAdam(Optimizer):
    """Adam as the original TWilBERT has it (Kingma and Ba 2015, the efficient form at the end of section 2).

    The bias correction is part of the rate, so that `eps` stands beside an uncorrected root; there is no
    weight decay.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        betas: How much of the running means of the gradient and of its square is kept each step.
        eps: Added to the root of the mean square.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
    ) -> None:
        _check_betas(betas)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step; returns what `closure` gave, if there is one."""
        loss = _call(closure)
        for group in self.param_groups:
            for share in _shares(self, group):
                # Fused kernels add eps to the corrected root: divided by the correction, it is the same sum.
                eps = group["eps"] / math.sqrt(1 - group["betas"][1] ** share.step)
                _fused_adam(share.parameters, share, lr=group["lr"], betas=group["betas"], eps=eps)
        return loss


class Lamb(Optimizer):
    """LAMB (You et al. 2020, algorithm 2), without a clamp of the trust ratio.

    Every tensor moves by the learning rate times its own norm, in Adam's direction plus its decay.

    TWilBERT: every tensor is updated, where the original stops after the first; a tensor or an update
    whose norm is 0 has the trust ratio 1, where the original divides by it.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        betas: How much of the running means of the gradient and of its square is kept each step.
        eps: Added to the root of the corrected mean square.
        weight_decay: Share of a parameter that is added to its update.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.76e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        _check_betas(betas)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step; returns what `closure` gave, if there is one."""
        loss = _call(closure)
        for group in self.param_groups:
            for share in _shares(self, group):
                updates = [torch.zeros_like(parameter) for parameter in share.parameters]
                _fused_adam(updates, share, lr=-1.0, betas=group["betas"], eps=group["eps"])
                if group["weight_decay"]:
                    torch._foreach_add_(updates, share.parameters, alpha=group["weight_decay"])
                trust = _trust(share.parameters, updates)
                torch._foreach_addcmul_(share.parameters, updates, trust, value=-group["lr"])
        return loss


_OWN: dict[str, type[Optimizer]] = {"twilbert-adam": TwilbertAdam, "lamb": Lamb}
_UNUSABLE = {
    "lbfgs": "computes the loss several times a step",
    "sparseadam": "takes sparse gradients alone",
}


def _find(name: str) -> Callable[..., Optimizer]:
    """Find an optimiser's class by its name, in any case."""
    known = {
        key.lower(): value
        for key, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, Optimizer) and value is not Optimizer
    } | _OWN
    wanted = name.lower()
    if wanted in _UNUSABLE and wanted in known:
        raise ConfigError(
            f"the optimiser {name} {_UNUSABLE[wanted]}, and cannot train this model: take another"
        )
    if wanted not in known:
        usable = ", ".join(sorted(known.keys() - _UNUSABLE.keys()))
        raise ConfigError(f"there is no optimiser '{name}': choose one of {usable}")
    return known[wanted]


def _groups(
    model: nn.Module, *, memory_rate: float, rates: Mapping[str, float], decays: bool
) -> list[dict[str, Any]]:
    """Group trainable parameters by their rates, and matrices apart from biases and norms."""
    tables = {id(module.values) for module in model.modules() if isinstance(module, ProductKeyMemory)}
    if memory_rate != 1 and not tables:
        raise ConfigError("optimiser.memory_rate would have no effect: only with product-key memories")
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_table, is_vector = id(parameter) in tables, parameter.dim() <= 1
            rate = rates.get(name, 1.0) * (memory_rate if is_table else 1.0)
            groups.setdefault((is_table, is_vector, rate), []).append(parameter)
    return [
        {"params": groups[kind], "rate": kind[2], **({"weight_decay": 0.0} if decays and kind[1] else {})}
        for kind in sorted(groups)
    ]


def _check_betas(betas: tuple[float, float]) -> None:
    if not all(0 <= beta < 1 for beta in betas):
        raise ConfigError(
            f"betas are shares from 0 up to, not including, 1, not {betas[0]:g} and {betas[1]:g}"
        )


def _call(closure: Callable[[], float] | None) -> float | None:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


@dataclass
class _Share:
    """Parameters of a group that one call can update: alike in device and type, and at the same step."""

    step: int
    parameters: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    means: list[Tensor] = field(default_factory=list)
    squares: list[Tensor] = field(default_factory=list)


def _shares(optimiser: Optimizer, group: dict[str, Any]) -> Iterable[_Share]:
    """Share out the parameters of a group that have gradients, with their running means, and count a step."""
    shares: dict[tuple[int, torch.device, torch.dtype], _Share] = {}
    for parameter in group["params"]:
        if parameter.grad is None:
            continue
        state = optimiser.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        step = int(state["step"].item())
        share = shares.setdefault((step, parameter.device, parameter.dtype), _Share(step))
        share.parameters.append(parameter)
        share.gradients.append(parameter.grad)
        share.means.append(state["mean"])
        share.squares.append(state["square"])
    return shares.values()


def _fused_adam(
    targets: list[Tensor], share: _Share, *, lr: float, betas: tuple[float, float], eps: float
) -> None:
    """Bring the gradients into the running means, and take a step of Adam from where `targets` are."""
    step = torch.full((), float(share.step), device=targets[0].device)
    torch._fused_adam_(
        targets,
        share.gradients,
        share.means,
        share.squares,
        [],
        [step] * len(targets),
        lr=lr,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=0.0,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )


def _trust(parameters: list[Tensor], updates: list[Tensor]) -> list[Tensor]:
    """Give each tensor's norm over that of its update, 1 where either is 0."""
    norms = torch.stack(torch._foreach_norm(parameters))
    lengths = torch.stack(torch._foreach_norm(updates))
    usable = (norms > 0) & (lengths > 0)
    return list(torch.where(usable, norms / lengths, 1.0).unbind())


def rate(schedule: Schedule, step: int, *, warmup: float, steps: int) -> float:
    """Return the share of the peak learning rate that a step uses.

    TWilBERT: the rate is set before the step; the original's first accumulation round runs at another.

    Args:
        schedule: ``linear`` and ``cosine`` fall to 0 after the last step; ``noam`` falls with the root of
            the step (Vaswani et al. 2017, section 5.3, scaled so that its peak is 1, see
            `twil.config.loop.noam_peak`); ``constant`` stays.
        step: The optimiser step, from 1.
        warmup: Steps over which the rate rises from 0.
        steps: Steps of the whole run.
    """
    if step < warmup:
        return step / warmup
    if schedule == "noam":
        return math.sqrt(max(warmup, 1) / step)
    remaining = max(0.0, (steps - step + 1) / (steps - warmup + 1))
    if schedule == "linear":
        return remaining
    if schedule == "cosine":
        return (1 - math.cos(math.pi * remaining)) / 2
    return 1.0
