"""A text encoder with any of its heads, as training, export and evaluation know it."""

# B batch   T tokens   N tokens of all rows   D hidden   E embedding   P vocabulary   L outputs

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from twil.bundle.architecture import Architecture
from twil.config.model import Pooling
from twil.core.errors import ModelError
from twil.core.task import Task
from twil.model.hub.sentence import SentenceVectors
from twil.model.packing import Packing


class TextModel(nn.Module, ABC):
    """What every model can be asked, whoever built its layers.

    Attributes:
        rop: The head for Reply Order Prediction, which TWilBERT alone may have.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rop: nn.Module | None = None

    @property
    @abstractmethod
    def architecture(self) -> Architecture:
        """What the model is made of."""

    @property
    @abstractmethod
    def max_positions(self) -> int:
        """The longest row in tokens, special ones included."""

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """The shape, the heads and the task in JSON's types, which tell models apart."""

    @property
    @abstractmethod
    def facts(self) -> dict[str, str]:
        """What a reader of its card or report is told of the shape, in words."""

    @property
    @abstractmethod
    def own_task(self) -> Task | None:
        """What the classifier is asked; None without a classifier."""

    @abstractmethod
    def set_task(self, task: Task) -> None:
        """Ask the same classifier under other names, or decide its answers otherwise."""

    @property
    @abstractmethod
    def has_mlm(self) -> bool:
        """Whether there is a masked-language head."""

    @property
    def ties_mlm(self) -> bool:
        """Whether that head's weights are the token embeddings."""
        return False

    @property
    @abstractmethod
    def pooling(self) -> Pooling | None:
        """How its classifier makes one vector of a row; None without one, or where that is its own affair."""

    def own_vectors(self) -> SentenceVectors | None:
        """Build what makes vectors of hidden states as the model's folder says; None where it says nothing.

        Raises:
            ModelError: It says something that cannot be computed.
        """
        return None

    @property
    @abstractmethod
    def token_embeddings(self) -> Tensor:
        """The vectors that tokens are looked up in, float ``(P, E)``; E may be less than D."""

    @property
    @abstractmethod
    def depths(self) -> Sequence[nn.Module]:
        """The encoder's parts from the bottom: the embeddings, then each layer.

        Raises:
            ConfigError: Its layers cannot be told apart.
        """

    @property
    @abstractmethod
    def on_encoder(self) -> Sequence[str]:
        """The names of the parameters that lie on the encoder: those of the heads, and of a pooler."""

    @abstractmethod
    def encode(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, segment_ids: Tensor | None = None
    ) -> Tensor:
        """Compute hidden states.

        Args:
            input_ids: int64 ``(B, T)``, T at most `max_positions`.
            attention_mask: int64 ``(B, T)``, 0 on pads; all 1 when left out.
            segment_ids: int64 ``(B, T)``, 1 on the second text; all 0 when left out.

        Returns:
            float ``(B, T, D)``.
        """

    @abstractmethod
    def encode_packed(
        self, input_ids: Tensor, segment_ids: Tensor, packing: Packing, attention_mask: Tensor | None = None
    ) -> Tensor:
        """Compute hidden states of rows that lie one behind the other.

        Args:
            input_ids: int64 ``(N,)``, each row at most `max_positions` long.
            segment_ids: int64 ``(N,)``.
            packing: Where the rows lie.
            attention_mask: int64 ``(N,)``, 0 on rows of pads that fill a batch up; all 1 when left out.

        Returns:
            float ``(N, D)``.
        """

    @abstractmethod
    def mlm_logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states float ``(…, D)`` to logits over the vocabulary ``(…, P)``.

        Raises:
            ModelError: The model has no such head.
        """

    def rop_logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states float ``(B, T, D)`` to reply-order logits ``(B, 2)``.

        Raises:
            ModelError: The model has no such head.
        """
        if self.rop is None:
            raise ModelError("this model has no reply-order head")
        logits: Tensor = self.rop(hidden)
        return logits

    @abstractmethod
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, segment_ids: Tensor | None = None
    ) -> Tensor:
        """Compute the classifier's logits float ``(B, L)``; arguments as for `encode`.

        Raises:
            ModelError: The model has no classifier.
        """

    @abstractmethod
    def compile_layers(self) -> None:
        """Compile the encoder with torch.compile."""

    @property
    def task(self) -> Task:
        """What the classifier is asked.

        Raises:
            ModelError: The model has no classifier.
        """
        if self.own_task is None:
            raise ModelError("this model has no classifier yet: make one with twil finetune")
        return self.own_task

    @property
    def vocab_size(self) -> int:
        """Tokens that have an embedding."""
        return self.architecture.vocabulary


def parameter_count(model: nn.Module) -> int:
    """Count the trainable numbers of a model, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
