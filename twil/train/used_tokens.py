"""The rows of a model's token embeddings that a run's texts use, trained in the place of all of them.

Fine-tuning reads a few thousand of the tokens that a model knows; the gradients of all others are nothing.
Their rows take part in every step all the same: gradients of zeros are made, measured, and brought into the
optimiser's means, which for a vocabulary of 250,000 is most of a step. So the rows that no text of the run
uses are left out until the end. What is learned is the same: an optimiser that takes each number by itself
does to the rows that are used what it did before, and to those that are not nothing but their decay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from twil.config.loop import OptimiserConfig
from twil.model.text_model import TextModel
from twil.train.objectives.classification import EncodedSet

_LARGEST_SHARE = 0.75
"""Of the rows that are used, beyond which little is gained."""
_DECAYING = frozenset({"adamw"})
_PLAIN = frozenset({"adam", "twilbert-adam"})
"""Optimisers that leave a row without gradients as it is, where they do not decay."""


class UsedTokens:
    """The rows of some tokens, in the place of a model's table of them.

    Args:
        model: Whose table is made smaller.
        used: The tokens, int64, in order.
        learned: Which of them training reads, bool; the others are read alone when the model is measured.
    """

    def __init__(self, model: TextModel, used: NDArray[np.int64], learned: NDArray[np.bool_]) -> None:
        ((self._module, self._name),) = _holders(model)
        self._used, self._learned = torch.from_numpy(used), torch.from_numpy(learned)
        self._whole: torch.Tensor = model.token_embeddings.detach()
        self._places = np.zeros(len(self._whole), dtype=np.int64)
        self._places[used] = np.arange(len(used))
        # The last row belongs to no token. What becomes of its ones becomes of every row that is not used.
        witness = torch.ones(1, self._whole.shape[1], dtype=self._whole.dtype)
        self._replace(torch.cat([self._whole[self._used], witness]))

    def renumber(self, encoded: EncodedSet) -> EncodedSet:
        """Give a set whose ids are the places of its tokens in the smaller table."""
        return replace(encoded, input_ids=[self._places[row].tolist() for row in encoded.input_ids])

    def restore(self) -> None:
        """Put the whole table back, with what was learned of the rows that training has read."""
        table = self._table.detach().cpu()
        whole = self._whole * table[-1]
        whole[self._used[self._learned]] = table[:-1][self._learned]
        self._replace(whole.to(self._table.device))

    @property
    def _table(self) -> torch.Tensor:
        table: torch.Tensor = getattr(self._module, self._name)
        return table

    def _replace(self, table: torch.Tensor) -> None:
        setattr(self._module, self._name, nn.Parameter(table))


def keep_used_rows(
    model: TextModel, sets: Mapping[str, EncodedSet], optimiser: OptimiserConfig
) -> UsedTokens | None:
    """Leave out the rows of a model's token embeddings that none of some texts uses.

    What is learned does not depend on the texts that the model is measured on, to the bit.

    Args:
        model: Before it has an optimiser.
        sets: All texts that the model is going to read: `train`, and those that it is measured on.
        optimiser: What is to train it.

    Returns:
        None where nothing is left out: the table is frozen or shared with a head, too few of its rows are
        unused, or the optimiser would treat the rest otherwise.
    """
    table = model.token_embeddings
    if not table.requires_grad or len(_holders(model)) != 1 or not _is_elementwise(optimiser):
        return None
    pad = sets["train"].pad_id  # which keeps its number
    tokens = {name: _tokens(encoded) for name, encoded in sets.items()}
    used = np.unique(np.concatenate([np.arange(pad + 1), *tokens.values()]))
    if len(used) > _LARGEST_SHARE * len(table):
        return None
    return UsedTokens(model, used, np.isin(used, [*tokens["train"], pad]))


def _is_elementwise(optimiser: OptimiserConfig) -> bool:
    """Tell whether an optimiser does nothing to a row without gradients but make it smaller."""
    name = optimiser.name.lower()
    return name in _DECAYING or (name in _PLAIN and not optimiser.weight_decay)


def _tokens(encoded: EncodedSet) -> NDArray[np.int64]:
    """Name the tokens of a set."""
    return np.unique(np.fromiter(chain.from_iterable(encoded.input_ids), dtype=np.int64))


def _holders(model: TextModel) -> list[tuple[nn.Module, str]]:
    """Find the modules that hold the table of token embeddings, and what they call it."""
    table = model.token_embeddings
    return [
        (module, name)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter is table
    ]
