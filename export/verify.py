"""Does an exported graph compute what its model does? What does not is no bundle."""

# B batch   T tokens   D hidden   H memory heads   R slots read per head

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twil.bundle.bundle import BATCH, INPUTS, SEQUENCE, Bundle
from twil.bundle.session import Session
from twil.core.errors import ExportError, ModelError, first_line, require
from twil.data.batching import Batch
from twil.exporting.graph.optimise import DOMAIN, FUSED
from twil.exporting.graph.write import ModelGraph
from twil.exporting.probes import SEED, probe_batches, shape_of
from twil.model.memory import ProductKeyMemory

TOLERANCE = 1e-4
"""The largest difference that float32 arithmetic in another order may make in numbers of moderate size."""

RELATIVE_TOLERANCE = 1e-6
"""What it may make more, as a part of the row's largest number: eight units in its last place."""

TIE = 1e-5
"""Two slots of a memory tie where their scores differ by no more than this part of the largest score."""

DRAWS = 8
"""How often a row may be drawn that differs at a tie of a memory's slots, until one agrees."""

_CONTROL_FLOW = ("If", "Loop", "Scan")
_RANDOM = ("Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform")


@dataclass(frozen=True)
class Parity:
    """How far a graph was from its model, and on what they were compared.

    Attributes:
        tolerance: The difference from which the export would have failed, but for rounding of large numbers.
        max_difference: The largest absolute difference, by output.
        label_agreement: The share of rows with the same label; None where there are no labels.
        rows: How many rows were compared, all of which agree.
        tied_rows: How many more differed at a tie of a memory's slots, and were drawn again.
        shapes: Batch and length of every batch.
    """

    tolerance: float
    max_difference: dict[str, float]
    label_agreement: float | None
    rows: int
    tied_rows: int
    shapes: list[tuple[int, int]]

    def as_dict(self) -> dict[str, Any]:
        """Describe it in JSON's types."""
        return asdict(self)


def verify(bundle: Bundle, module: ModelGraph) -> Parity:
    """Hold a bundle's graph to the model that it was made from.

    The graph must have dynamic axes by their names, standard operators only, and nothing of training. It
    runs on everyday texts and on random rows, padded on the right, at shapes from 1 × 1 to the longest
    row, and must agree with the module on every number. Where a row differs and a memory reads one of two
    slots whose scores are equal but for rounding, random tokens take its tokens' place: in the end all
    rows of every shape agree.

    Args:
        bundle: The graph, its tokenizer, and a manifest that need not have a parity report yet.
        module: What was exported, in evaluation mode on the CPU.

    Raises:
        ExportError: The graph is not what it should be.
        MissingExtraError: onnx or ONNX Runtime is not installed.
    """
    check_structure(bundle)
    random = np.random.default_rng(SEED)
    batches = list(probe_batches(bundle, random, vocab_size=module.model.vocab_size))
    # All of torch's work comes first: ONNX Runtime's threads spin for a while, and would hold it up.
    expected = [_reference(module, batch) for batch in batches]
    session = open_exported(bundle)
    comparisons = [
        _hold_to_model(session, module, batch, outputs, random)
        for batch, outputs in zip(batches, expected, strict=True)
    ]
    check_repeatable(session, batches[0])
    agreed = [same for comparison in comparisons for same in comparison.same_labels]
    return Parity(
        tolerance=TOLERANCE,
        max_difference={
            name: float(max(comparison.differences[name].max() for comparison in comparisons))
            for name in bundle.manifest.outputs
        },
        label_agreement=sum(agreed) / len(agreed) if agreed else None,
        rows=sum(len(batch.input_ids) for batch in batches),
        tied_rows=sum(comparison.tied_rows for comparison in comparisons),
        shapes=list(dict.fromkeys(shape_of(batch) for batch in batches)),
    )


def check_structure(bundle: Bundle) -> None:
    """Check a graph as it lies on disk: the names of its axes, and the operators it is made of.

    Raises:
        ExportError: An axis is fixed or has another name, or an operator is none that every runtime has,
            nor one of those that an optimised graph may hold.
    """
    onnx = require("onnx", purpose="export")
    model = onnx.load(bundle.graph, load_external_data=False)
    inputs = {value.name: _axes(value) for value in model.graph.input}
    if inputs != dict.fromkeys(INPUTS, (BATCH, SEQUENCE)):
        raise rejected(f"its inputs are {inputs}, and all axes must be dynamic ({BATCH}, {SEQUENCE})")
    outputs = {value.name: _axes(value)[:-1] for value in model.graph.output}
    if outputs != bundle.manifest.outputs:
        raise rejected(f"its outputs have the axes {outputs} where {bundle.manifest.outputs} are meant")
    fused = {(DOMAIN, operator) for operator in FUSED} if bundle.manifest.optimized else set()
    strange = {
        f"{node.domain}.{node.op_type}"
        for node in model.graph.node
        if node.domain and (node.domain, node.op_type) not in fused
    }
    strange |= {node.op_type for node in model.graph.node} & {*_CONTROL_FLOW, *_RANDOM}
    if strange or model.functions:
        names = ", ".join(sorted(strange | {function.name for function in model.functions}))
        raise rejected(f"it holds {names}, which is no plain arithmetic")


@dataclass(frozen=True)
class _Comparison:
    differences: dict[str, NDArray[np.float32]]  # by output, (B,)
    allowed: dict[str, NDArray[np.float32]]  # by output, (B,)
    same_labels: list[bool]  # by row; empty where there are no labels
    tied_rows: int = 0  # drawn again before all agreed

    @cached_property
    def apart(self) -> dict[str, NDArray[np.bool_]]:  # by output, (B,)
        return {name: by_row > self.allowed[name] for name, by_row in self.differences.items()}


def _hold_to_model(
    session: Session,
    module: ModelGraph,
    batch: Batch,
    reference: list[NDArray[np.float32]],
    random: np.random.Generator,
) -> _Comparison:
    """Compare a batch until all its rows agree, drawing again those that differ at a tie."""
    tied = 0
    for _ in range(DRAWS):
        comparison = _compare(session, batch, reference)
        apart = np.any(list(comparison.apart.values()), axis=0)  # (B,)
        if not apart.any():
            return replace(comparison, tied_rows=tied)
        _check_tied(comparison, apart & ~tied_rows(module, batch), shape_of(batch))
        tied += int(apart.sum())
        batch = _redraw(random, batch, apart, module.model.vocab_size)
        reference = _reference(module, batch)
    raise rejected(
        f"it cannot be checked on a batch of {shape_of(batch)}: of {DRAWS} draws none agrees with the model, "
        "and in each a memory's slots have equal scores"
    )


def _compare(session: Session, batch: Batch, reference: list[NDArray[np.float32]]) -> _Comparison:
    manifest = session.bundle.manifest
    found = run_exported(session, batch)
    expected = dict(zip(manifest.outputs, reference, strict=True))
    if manifest.task:
        # What a probability is, twil.core.task decides; the module in torch was only written to say the same.
        expected["probabilities"] = manifest.task.probabilities(expected["logits"])
    differences = {name: _row_differences(name, found[name], expected[name]) for name in expected}
    allowed = {
        name: TOLERANCE + RELATIVE_TOLERANCE * _largest_by_row(np.abs(numbers))
        for name, numbers in expected.items()
    }
    same_labels: list[bool] = []
    if manifest.task and manifest.task.kind != "regression":
        ours, its = (manifest.task.decode(side["logits"]).labels for side in (expected, found))
        # Within the tolerance, labels differ only where the model's own scores tie.
        same_labels = [label == other for label, other in zip(ours, its, strict=True)]
    return _Comparison(differences, allowed, same_labels)


def _check_tied(comparison: _Comparison, untied: NDArray[np.bool_], shape: tuple[int, int]) -> None:
    """Refuse the graph where a row differs that has no tie to explain it."""
    for name, apart in comparison.apart.items():
        refused = apart & untied
        if refused.any():
            difference, allowed = (by[name][refused] for by in (comparison.differences, comparison.allowed))
            worst = difference.argmax()
            raise rejected(
                f"its {name} differ from the model's by {difference[worst]:.2g} on a batch of {shape}, "
                f"and {allowed[worst]:.2g} is allowed"
            )


def _redraw(random: np.random.Generator, batch: Batch, rows: NDArray[np.bool_], vocab_size: int) -> Batch:
    """Put random tokens in the place of some rows' tokens; pads stay."""
    drawn = random.integers(0, vocab_size, batch.input_ids.shape)
    places = rows[:, None] & (batch.attention_mask != 0)  # (B, T)
    return replace(batch, input_ids=np.where(places, drawn, batch.input_ids))


def _row_differences(
    name: str, found: NDArray[np.float32], expected: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the largest absolute difference in each row, float32 ``(B,)``."""
    if not np.isfinite(expected).all():
        raise ExportError(
            f"the model itself gives {name} that are not finite: its weights are damaged, "
            "so train it or copy it again"
        )
    if found.shape != expected.shape:  # an axis of 1 would broadcast
        raise rejected(f"its {name} have the shape {found.shape} where the model's have {expected.shape}")
    if not np.isfinite(found).all():
        raise rejected(f"its {name} are not finite where the model's are")
    return _largest_by_row(np.abs(found - expected))


def _largest_by_row(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    largest: NDArray[np.float32] = numbers.reshape(len(numbers), -1).max(axis=1)
    return largest


def tied_rows(module: ModelGraph, batch: Batch) -> NDArray[np.bool_]:
    """Tell in which rows of a batch a memory's choice of slots hangs on rounding, bool ``(B,)``.

    A memory reads its R best slots, so its result jumps where the scores of slots R and R + 1 cross: there
    two correct computations in float32 may differ by any amount.
    """
    tied = torch.zeros(len(batch.input_ids), dtype=torch.bool)

    def note(memory: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(memory, ProductKeyMemory)
        tied.logical_or_(_is_tie(memory, *inputs).flatten(1).any(dim=1))

    memories = [part for part in module.modules() if isinstance(part, ProductKeyMemory)]
    hooks = [memory.register_forward_pre_hook(note) for memory in memories]
    try:
        _reference(module, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return tied.numpy()


def _is_tie(memory: ProductKeyMemory, hidden: Tensor, visible: Tensor) -> Tensor:
    """Hold the last slot read against the next: hidden states ``(B, T, D)`` to bool ``(B, T, H)``."""
    scores = memory.scores(hidden, visible)
    # The R + 1 best sums lie among the sums of the R + 1 best of each half.
    first, second = scores.topk(min(memory.knn + 1, memory.n_keys), dim=-1).values.unbind(dim=-2)
    sums = (first[..., :, None] + second[..., None, :]).flatten(-2)  # (B, T, H, up to (R + 1)²)
    if sums.shape[-1] <= memory.knn:  # every slot is read
        return torch.zeros(sums.shape[:-1], dtype=torch.bool)
    best = sums.topk(memory.knn + 1, dim=-1).values  # (B, T, H, R + 1)
    return best[..., -2] - best[..., -1] <= TIE * best.abs().amax(dim=-1)


def check_repeatable(session: Session, batch: Batch) -> None:
    """Check that a graph gives the same bytes twice.

    Raises:
        ExportError: It does not.
    """
    first, second = run_exported(session, batch), run_exported(session, batch)
    changing = [name for name in first if first[name].tobytes() != second[name].tobytes()]
    if changing:
        raise rejected(f"its {' and '.join(changing)} change from run to run")


def open_exported(bundle: Bundle) -> Session:
    """Open a graph that was written just now.

    Raises:
        ExportError: It cannot be loaded.
    """
    try:
        return Session(bundle, provider="cpu")
    except ModelError as error:
        raise rejected(_cause(error)) from error


def run_exported(session: Session, batch: Batch) -> dict[str, NDArray[np.float32]]:
    """Compute every output of a graph that was written just now.

    Raises:
        ExportError: It fails.
    """
    try:
        return session.run(batch)
    except ModelError as error:
        raise rejected(
            f"it fails on a batch of {shape_of(batch)}, as where an axis was fixed ({_cause(error)})"
        ) from error


def _reference(module: ModelGraph, batch: Batch) -> list[NDArray[np.float32]]:
    """Compute in torch what the graph should give."""
    with torch.inference_mode():
        outputs = module(*(torch.from_numpy(getattr(batch, name)) for name in INPUTS))
    return [output.numpy() for output in outputs]


def _axes(value: Any) -> tuple[str | int, ...]:
    """Read the axes of an input or output: names where they are dynamic."""
    return tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim)


def _cause(error: ModelError) -> str:
    """Say what ONNX Runtime said, where it said something."""
    return first_line(error.__cause__ or error)


def rejected(fault: str) -> ExportError:
    """Say what is wrong with a graph, and what to do about it."""
    return ExportError(
        f"the exported graph is refused: {fault}. Install the versions of constraints.txt, "
        "or report it with the model's config.json"
    )


_LENGTHS = (24, 5, 11, 1)
"""Of the rows that are tried; all but the first are padded beside it."""
_LIKE = 1e-3
"""How far a row beside others may be from the same row alone, as a part of the output's largest value where
that is more than 1."""


def check_neighbours(module: ModelGraph, outputs: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a model that reads the pads of a row: what it says of a text depends on the texts beside it.

    Args:
        module: What is to be exported, in evaluation mode.
        outputs: Names of what it gives, each with the names of its axes.

    Raises:
        ExportError: It does.
    """
    model = module.model
    lengths = torch.tensor([min(length, model.max_positions) for length in _LENGTHS])
    random = torch.Generator().manual_seed(SEED)
    ids = torch.randint(model.vocab_size, (len(lengths), int(lengths[0])), generator=random)
    visible = (torch.arange(ids.shape[1]) < lengths[:, None]).long()  # (B, T)
    together = _compute(module, ids, visible)
    for row, length in enumerate(lengths.tolist()):
        alone = _compute(module, ids[row : row + 1, :length], visible[row : row + 1, :length])
        for (name, axes), one, many in zip(outputs.items(), alone, together, strict=True):
            beside = many[row, :length] if SEQUENCE in axes else many[row]
            difference = float((one[0] - beside).abs().max())
            if not difference <= _LIKE * max(1.0, float(one.abs().max())):
                raise ExportError(
                    f"this model reads the pads behind a row: its {name} of a text change by "
                    f"{difference:.2g} with the texts beside it, so that a file would be labelled otherwise "
                    "in other batches; give another model"
                )


def _compute(module: ModelGraph, ids: Tensor, visible: Tensor) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        computed: tuple[Tensor, ...] = module(ids * visible, visible, torch.zeros_like(ids))
    return computed
