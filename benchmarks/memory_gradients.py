"""Measure a training step of a product-key memory with dense and with sparse gradients of its values.

    OMP_NUM_THREADS=1 python benchmarks/memory_gradients.py [--output benchmarks/results/memory_gradients.md]

A memory of 65,536 slots of 768 values, read by 4 heads at 32 slots each; its input is random and its loss
the mean square of its output, so that all slots are read about equally often. Dense: one fused AdamW for
all. Sparse: SparseAdam for the table of values, AdamW for the rest. A step is forward, backward, update and
clearing the gradients; the median of the repetitions counts, after a warm-up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from twil.config.loop import OptimiserConfig
from twil.config.model import MemoryConfig
from twil.core.machine import cpu_name
from twil.core.version import __version__
from twil.model.encoder import initialize
from twil.model.memory import ProductKeyMemory
from twil.train.optimisers import make_optimiser

HIDDEN = 768
CONFIG = MemoryConfig(layers=(0,), n_heads=4, n_keys=256, knn=32)
TOKENS = (64, 1024, 8192)
REPETITIONS = 3


class SparseMemory(ProductKeyMemory):
    """A memory whose values have sparse gradients."""

    def _read(self, weights: Tensor, slots: Tensor) -> Tensor:
        bags: Tensor = F.embedding_bag(
            slots.flatten(0, 1),
            self.values,
            per_sample_weights=weights.flatten(0, 1),
            mode="sum",
            sparse=True,
        )
        return bags.view(*slots.shape[:2], -1)


def optimisers(memory: ProductKeyMemory) -> list[torch.optim.Optimizer]:
    if not isinstance(memory, SparseMemory):
        return [make_optimiser(memory, OptimiserConfig(name="adamw"), lr=1e-4)]
    rest = [parameter for parameter in memory.parameters() if parameter is not memory.values]
    return [torch.optim.SparseAdam([memory.values], lr=1e-4), torch.optim.AdamW(rest, lr=1e-4, fused=True)]


def measure(kind: type[ProductKeyMemory], tokens: int) -> tuple[float, float, float]:
    """Return the seconds of forward and backward, those of the update, and the share of slots read."""
    torch.manual_seed(1)
    memory = kind(CONFIG, HIDDEN)
    initialize(memory, 0.02)
    torch.nn.init.normal_(memory.keys)
    steppers = optimisers(memory)
    hidden, visible = torch.randn(1, tokens, HIDDEN), torch.ones(1, tokens, dtype=torch.bool)
    with torch.no_grad():
        _, slots = memory._best(memory.scores(hidden, visible))
    touched = len(set(slots.flatten().tolist())) / len(memory.values)
    passes, updates = [], []
    for _ in range(REPETITIONS + 1):
        start = time.perf_counter()
        memory(hidden, visible).square().mean().backward()
        middle = time.perf_counter()
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad()
        passes.append(middle - start)
        updates.append(time.perf_counter() - middle)
    return statistics.median(passes[1:]), statistics.median(updates[1:]), touched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "memory_gradients.md"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    page = (
        "# Dense and sparse gradients of a memory's values\n\n"
        f"Written by `benchmarks/memory_gradients.py`: twil {__version__}, torch {torch.__version__},\n"
        f"{cpu_name()}, one thread. One memory of {CONFIG.n_keys**2:,} slots of {HIDDEN} values, "
        f"{CONFIG.n_heads} heads, {CONFIG.knn} slots a head; times in milliseconds.\n\n"
        "| tokens | slots read | gradients | forward and backward | update | step |\n"
        "| ---: | ---: | --- | ---: | ---: | ---: |\n"
    )
    verdicts = []
    for tokens in TOKENS:
        steps = {}
        for name, kind in (("dense", ProductKeyMemory), ("sparse", SparseMemory)):
            passes, update, touched = measure(kind, tokens)
            steps[name] = passes + update
            page += (
                f"| {tokens:,} | {touched:.0%} | {name} | {passes * 1000:,.0f} | {update * 1000:,.0f} "
                f"| {steps[name] * 1000:,.0f} |\n"
            )
        winner, other = sorted(steps, key=lambda name: steps[name])
        verdicts.append(
            f"At {tokens:,} tokens {winner} gradients are {steps[other] / steps[winner]:.1f} times as fast."
        )
    page += "\n" + "\n".join(verdicts) + "\n"
    options.output.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
