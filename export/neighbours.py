"""Does a model say the same of a row, whatever rows lie beside it?"""

# B batch   T tokens

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from twil.bundle.bundle import SEQUENCE
from twil.core.errors import ExportError
from twil.export.graph import ModelGraph
from twil.export.probes import SEED

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
