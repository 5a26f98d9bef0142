"""A TWilBERT model: the encoder and whichever heads it has."""

# B batch   T tokens   D hidden   P vocabulary   L outputs

from __future__ import annotations

import torch
from torch import Tensor, nn

from twil.config.model import ModelConfig
from twil.errors import ModelError
from twil.model.encoder import Encoder, initialize
from twil.model.heads import ClassifierHead, RopHead, TiedMlmHead
from twil.model.packing import Packing
from twil.predict.architecture import Architecture
from twil.task import Task

MODEL_TYPE = "twilbert"


class TWilBERT(nn.Module):
    """BERT for Spanish Twitter (González, Hurtado and Pla 2020), with any of its heads.

    Args:
        config: The encoder's shape and the heads.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        shape = config.encoder
        self.encoder = Encoder(shape)
        self.mlm: nn.Linear | TiedMlmHead | None = None
        if config.mlm and config.tie_word_embeddings:
            self.mlm = TiedMlmHead(shape.vocab_size)
        elif config.mlm:
            self.mlm = nn.Linear(shape.hidden_size, shape.vocab_size)  # as in the original
        self.rop = RopHead(config.rop, shape.hidden_size, shape.layer_norm_eps) if config.rop else None
        self.classifier: ClassifierHead | None = None
        if config.classifier and config.task:
            self.classifier = ClassifierHead(config.classifier, shape.hidden_size, config.task.outputs)
        for head in (self.mlm, self.rop, self.classifier):
            if head is not None:
                initialize(head, shape.initializer_range)

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        shape = self.config.encoder
        return Architecture(
            type=MODEL_TYPE,
            layers=shape.n_layers,
            heads=shape.n_heads,
            hidden=shape.hidden_size,
            vocabulary=shape.vocab_size,
            parameters=parameter_count(self),
        )

    @property
    def task(self) -> Task:
        """What the classifier is asked.

        Raises:
            ModelError: The model has no classifier.
        """
        if self.config.task is None:
            raise ModelError("this model has no classifier yet: make one with twil finetune")
        return self.config.task

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, segment_ids: Tensor | None = None
    ) -> Tensor:
        """Compute hidden states.

        Args:
            input_ids: int64 ``(B, T)``, T at most the encoder's `max_positions`.
            attention_mask: int64 ``(B, T)``, 0 on pads; all 1 when left out.
            segment_ids: int64 ``(B, T)``, 1 on the second text; all 0 when left out.

        Returns:
            float ``(B, T, D)``.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if segment_ids is None:
            segment_ids = torch.zeros_like(input_ids)
        hidden: Tensor = self.encoder(input_ids, attention_mask, segment_ids)
        return hidden

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
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden: Tensor = self.encoder(input_ids[None], attention_mask[None], segment_ids[None], packing)[0]
        return hidden

    def mlm_logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states float ``(…, D)`` to logits over the vocabulary ``(…, P)``.

        Raises:
            ModelError: The model has no such head.
        """
        if self.mlm is None:
            raise ModelError("this model has no masked-language head")
        if isinstance(self.mlm, TiedMlmHead):
            tied: Tensor = self.mlm(hidden, self.encoder.embeddings.token.weight)
            return tied
        logits: Tensor = self.mlm(hidden)
        return logits

    def rop_logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states float ``(B, T, D)`` to reply-order logits ``(B, 2)``.

        Raises:
            ModelError: The model has no such head.
        """
        if self.rop is None:
            raise ModelError("this model has no reply-order head")
        logits: Tensor = self.rop(hidden)
        return logits

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, segment_ids: Tensor | None = None
    ) -> Tensor:
        """Compute the classifier's logits float ``(B, L)``; arguments as for `encode`.

        Raises:
            ModelError: The model has no classifier.
        """
        if self.classifier is None:
            raise ModelError("this model has no classifier yet: make one with twil finetune")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if segment_ids is None:
            segment_ids = torch.zeros_like(input_ids)
        # This pooling reads no other token of the last layer.
        encode = self.encoder.first if self.classifier.pooling == "cls" else self.encoder
        hidden: Tensor = encode(input_ids, attention_mask, segment_ids)
        logits: Tensor = self.classifier(hidden, self.classifier.pooled_tokens(input_ids, attention_mask))
        return logits


def with_heads(model: TWilBERT, config: ModelConfig) -> TWilBERT:
    """Put heads on a copy of a model's encoder.

    A classifier of the same task, pooling and head keeps its weights (see `keeps_classifier`), and so do
    heads of pretraining of the same shape; any other head is new.

    Args:
        model: Where the weights come from.
        config: The heads to make, and the encoder's shape, which must be the same.
    """
    changed = TWilBERT(config)
    changed.encoder.load_state_dict(model.encoder.state_dict())
    if keeps_classifier(model.config, config):
        assert changed.classifier is not None
        assert model.classifier is not None
        changed.classifier.load_state_dict(model.classifier.state_dict())
    if changed.mlm is not None and model.mlm is not None:
        changed.mlm.load_state_dict(model.mlm.state_dict())
    if changed.rop is not None and model.rop is not None and config.rop == model.config.rop:
        changed.rop.load_state_dict(model.rop.state_dict())
    return changed


def keeps_classifier(old: ModelConfig, new: ModelConfig) -> bool:
    """Tell whether a classifier's weights mean the same in another configuration."""
    if old.classifier is None or new.classifier is None:
        return False
    assert old.task is not None
    assert new.task is not None
    heads = [config.model_copy(update={"dropout": 0.0}) for config in (old.classifier, new.classifier)]
    return old.task.undecided == new.task.undecided and heads[0] == heads[1]


def parameter_count(model: nn.Module) -> int:
    """Count the trainable numbers of a model, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
