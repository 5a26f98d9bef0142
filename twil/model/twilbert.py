"""A TWilBERT model: the encoder and whichever heads it has."""

# B batch   T tokens   D hidden   E embedding   P vocabulary   L outputs

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from twil.bundle.architecture import Architecture
from twil.config.model import ModelConfig, Pooling
from twil.core.errors import ModelError
from twil.core.task import Task
from twil.model.encoder import Encoder, initialize
from twil.model.heads import ClassifierHead, RopHead, TiedMlmHead
from twil.model.packing import Packing
from twil.model.text_model import TextModel, parameter_count

MODEL_TYPE = "twilbert"


class TWilBERT(TextModel):
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
    def max_positions(self) -> int:
        """The longest row in tokens, special ones included."""
        return self.config.encoder.max_positions

    @property
    def description(self) -> dict[str, Any]:
        """The shape, the heads and the task in JSON's types."""
        return self.config.as_dict()

    @property
    def facts(self) -> dict[str, str]:
        """What a reader of its card or report is told of the shape, in words."""
        shape = self.config.encoder
        facts = {
            "architecture": "TWilBERT encoder",
            "layers": f"{shape.n_layers}{' with shared weights' if shape.share_layers else ''}",
            "hidden size": f"{shape.hidden_size:,}",
            "attention heads": f"{shape.n_heads} of {shape.head_size}",
            "embedding size": f"{shape.embedding_size or shape.hidden_size:,}",
            "vocabulary": f"{shape.vocab_size:,} tokens",
            "parameters": f"{parameter_count(self):,}",
        }
        if shape.memory:
            slots, layers = shape.memory.n_keys**2, len(shape.memory.layers)
            facts["product-key memory"] = f"{slots:,} slots in {layers} layer(s)"
        return facts

    @property
    def own_task(self) -> Task | None:
        """What the classifier is asked; None without a classifier."""
        return self.config.task

    def set_task(self, task: Task) -> None:
        """Ask the same classifier under other names, or decide its answers otherwise."""
        self.config = self.config.model_copy(update={"task": task})

    @property
    def has_mlm(self) -> bool:
        """Whether there is a masked-language head."""
        return self.mlm is not None

    @property
    def ties_mlm(self) -> bool:
        """Whether that head's weights are the token embeddings."""
        return isinstance(self.mlm, TiedMlmHead)

    @property
    def pooling(self) -> Pooling | None:
        """How its classifier makes one vector of a row; None without one."""
        return self.config.classifier.pooling if self.config.classifier else None

    @property
    def token_embeddings(self) -> Tensor:
        """The vectors that tokens are looked up in, float ``(P, E)``."""
        return self.encoder.embeddings.token.weight

    @property
    def depths(self) -> list[nn.Module]:
        """The encoder's parts from the bottom: the embeddings, then each layer."""
        encoder = self.encoder
        return [encoder.embeddings, *(encoder.blocks[block] for block in encoder.plan)]

    @property
    def on_encoder(self) -> list[str]:
        """The names of the heads' parameters."""
        return [name for name, _ in self.named_parameters() if not name.startswith("encoder.")]

    def compile_layers(self) -> None:
        """Compile the encoder with torch.compile."""
        self.encoder.compile_layers()

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, segment_ids: Tensor | None = None
    ) -> Tensor:
        """Compute hidden states float ``(B, T, D)``, as `TextModel.encode` says."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if segment_ids is None:
            segment_ids = torch.zeros_like(input_ids)
        hidden: Tensor = self.encoder(input_ids, attention_mask, segment_ids)
        return hidden

    def encode_packed(
        self, input_ids: Tensor, segment_ids: Tensor, packing: Packing, attention_mask: Tensor | None = None
    ) -> Tensor:
        """Compute hidden states float ``(N, D)`` of packed rows, as `TextModel.encode_packed` says."""
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

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, segment_ids: Tensor | None = None
    ) -> Tensor:
        """Compute the classifier's logits float ``(B, L)``; arguments as for `encode`.

        Raises:
            ModelError: The model has no classifier.
        """
        if self.classifier is None:
            raise ModelError("this model has no classifier yet: make one with twil finetune")
        return classify(self.encoder, self.classifier, input_ids, attention_mask, segment_ids)


def classify(
    encoder: Encoder,
    classifier: ClassifierHead,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    segment_ids: Tensor | None = None,
) -> Tensor:
    """Compute logits float ``(B, L)`` of tokens int64 ``(B, T)``; arguments as for `TextModel.encode`."""
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    if segment_ids is None:
        segment_ids = torch.zeros_like(input_ids)
    # This pooling reads no other token of the last layer.
    encode = encoder.first if classifier.pooling == "cls" else encoder
    hidden: Tensor = encode(input_ids, attention_mask, segment_ids)
    logits: Tensor = classifier(hidden, classifier.pooled_tokens(input_ids, attention_mask))
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
    return old.task.undecided == new.task.undecided and old.classifier.has_weights_of(new.classifier)
