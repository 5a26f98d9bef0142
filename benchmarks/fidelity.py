"""Measure how far twil is from the original TWilBERT on its reference data, and write a table.

    python benchmarks/fidelity.py --fixtures FOLDER [--output benchmarks/results/fidelity.md]

Largest absolute difference of hidden states and probabilities over all inputs of a fixture, padded ones
included (without a mask, as the original computed them); relative difference of the loss; largest difference
of a gradient, relative to the largest entry of its tensor. float32 on the CPU.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from twil.model.original import import_original, keras_order
from twil.model.twilbert import TWilBERT
from twil.text.tokenizer import encode, original_tokenizer

FIXTURES = ("base_like", "shared_factorized", "pkm", "mlm_only")
INTRODUCTION = (
    "Largest differences, float32 on a CPU. `benchmarks/fidelity.py` wrote this table and says what each\n"
    "column compares."
)
INPUTS = ("pair", "single", "padded_gen", "padded_single", "padded_pair")


def measure(folder: Path) -> list[float]:
    """Return the differences of one fixture: hidden, MLM, ROP, loss, gradient."""
    model = import_original(
        folder / "weights.hdf5", folder / "config.json", folder.parent / "vocab_small"
    ).model
    inputs, outputs = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")
    hidden_gap = mlm_gap = 0.0
    rop_gap = 0.0 if model.rop is not None else math.nan
    for name in INPUTS:
        ids, segments = (torch.tensor(inputs[f"{name}_{kind}"]).long() for kind in ("tokens", "segments"))
        with torch.no_grad():
            hidden = model.encode(ids, torch.ones_like(ids), segments)
            mlm = model.mlm_logits(hidden).softmax(-1).numpy()
        hidden_gap = max(hidden_gap, gap(hidden.numpy(), outputs[f"{name}_hidden"]))
        full = f"{name}_mlm" in outputs
        stored = outputs[f"{name}_mlm"] if full else outputs[f"{name}_mlm_row0"]
        mlm_gap = max(mlm_gap, gap(mlm if full else mlm[0], stored))
        if model.rop is not None:
            rop = model.rop_logits(hidden).softmax(-1).detach().numpy()
            rop_gap = max(rop_gap, gap(rop, outputs[f"{name}_rop"]))
    return [hidden_gap, mlm_gap, rop_gap, *measure_training(model, folder, inputs)]


def measure_training(model: TWilBERT, folder: Path, inputs: np.lib.npyio.NpzFile) -> tuple[float, float]:
    """Return the relative differences of the pretraining loss and of its gradients."""
    ids, segments = (torch.tensor(inputs[f"padded_gen_{kind}"]).long() for kind in ("tokens", "segments"))
    labels = torch.tensor(inputs["padded_gen_mlm_labels"][..., 0]).long()
    hidden = model.encode(ids, torch.ones_like(ids), segments)
    loss = F.cross_entropy(model.mlm_logits(hidden[labels != 0]), labels[labels != 0])
    if model.rop is not None:
        loss = loss + F.cross_entropy(
            model.rop_logits(hidden), torch.tensor(inputs["padded_gen_rop_labels"]).long()
        )
    loss.backward()  # type: ignore[no-untyped-call]
    expected = json.loads((folder / "loss.json").read_text())["metrics"][0]
    gradients = {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    stored = np.load(folder / "grads_padded_gen.npz")
    worst = 0.0
    for index, (_, gradient) in enumerate(keras_order(gradients, model.config)):
        if f"{index:03d}" in stored:
            reference = stored[f"{index:03d}"][: len(gradient)]
            worst = max(worst, gap(gradient.numpy(), reference) / max(float(np.abs(reference).max()), 1e-6))
    return abs(loss.item() - expected) / expected, worst


def count_tokenizer(fixtures: Path, vocabulary: Path) -> dict[str, tuple[int, int]]:
    """Count the lines whose ids are the original's: without and with its preprocessing."""
    lines = [json.loads(line) for line in (fixtures / "tokenizer" / "tokenizer.jsonl").open(encoding="utf-8")]
    counts = {}
    for name, key, preprocess in (("raw", "ids", False), ("preprocessed", "ids_preprocessed", True)):
        tokenizer = original_tokenizer(vocabulary, max_length=10_000, preprocess=preprocess)
        encoded = encode(tokenizer, [line["text"] for line in lines]).input_ids
        same = sum(ids[1:-1] == line[key] for ids, line in zip(encoded, lines, strict=True))
        counts[name] = (same, len(lines))
    return counts


def gap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest absolute difference."""
    return float(np.abs(one - other).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fixtures", type=Path, required=True, help="folder of the reference data")
    parser.add_argument("--vocabulary", type=Path, help="the original's vocabulary, to compare ids")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "fidelity.md")
    options = parser.parse_args()
    heads = ["fixture", "hidden states", "MLM probabilities", "ROP probabilities", "loss", "gradients"]
    rows = [heads, ["---"] * len(heads)]
    for name in FIXTURES:
        values = measure(options.fixtures / name)
        rows.append([name, *("–" if math.isnan(value) else f"{value:.1e}" for value in values)])
    page = f"# Distance from the original\n\n{INTRODUCTION}\n\n"
    page += "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
    if options.vocabulary:
        counts = count_tokenizer(options.fixtures, options.vocabulary)
        said = [f"{same} of {total} {name} texts" for name, (same, total) in counts.items()]
        page += f"\nToken ids are the original's for {' and '.join(said)}.\n"
    options.output.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
