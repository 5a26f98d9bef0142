"""TWilBERT's networks as the transformers library wants them: twil's layers, its names of weights."""

# B batch   T tokens   D hidden   P vocabulary   L outputs

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput, SequenceClassifierOutput

from twil.config.model import ClassifierConfig, ModelConfig
from twil.core.errors import ModelError
from twil.model.encoder import Encoder, draw_memory, initialize
from twil.model.heads import ClassifierHead
from twil.model.hub.twilbert_config import TwilbertConfig
from twil.model.memory import ProductKeyMemory
from twil.model.twilbert import classify


class TwilbertPreTrainedModel(PreTrainedModel):  # type: ignore[misc]  # the library is not typed
    """The encoder, and what all of its networks share.

    Args:
        config: Shape, heads and labels.
    """

    config_class = TwilbertConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"

    def __init__(self, config: TwilbertConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config.shape.encoder)

    @property
    def kept(self) -> ModelConfig:
        """The shape with no more heads than this network has."""
        return ModelConfig(encoder=self.config.shape.encoder)

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        """Load as the library does, and from nothing but safetensors."""
        return super().from_pretrained(*arguments, **options | {"use_safetensors": True})

    def save_pretrained(self, *arguments: Any, **options: Any) -> None:
        """Save as the library does; `config.json` tells twil which heads are there."""
        self.config.describe(self.kept)
        super().save_pretrained(*arguments, **options)

    def get_input_embeddings(self) -> nn.Module:
        """Give the token embeddings."""
        return self.encoder.embeddings.token

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Take other token embeddings."""
        self.encoder.embeddings.token = value

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None
    ) -> Tensor:
        """Map int64 ``(B, T)`` to hidden states float ``(B, T, D)``."""
        hidden: Tensor = self.encoder(
            input_ids,
            torch.ones_like(input_ids) if attention_mask is None else attention_mask,
            torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids,
        )
        return hidden

    def _init_weights(self, module: nn.Module) -> None:
        """Draw what no file brought, as twil draws it."""
        if isinstance(module, nn.Linear | nn.Embedding):
            initialize(module, self.config.shape.encoder.initializer_range)
        elif isinstance(module, ProductKeyMemory):
            draw_memory(module)
        else:
            super()._init_weights(module)


class TwilbertModel(TwilbertPreTrainedModel):
    """The bare encoder."""

    def __init__(self, config: TwilbertConfig) -> None:
        super().__init__(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Map int64 ``(B, T)`` to hidden states float ``(B, T, D)``."""
        output = BaseModelOutput(last_hidden_state=self.encode(input_ids, attention_mask, token_type_ids))
        return output.to_tuple() if return_dict is False else output


class TwilbertForMaskedLM(TwilbertPreTrainedModel):
    """The encoder and its masked-language head, whose weights are the token embeddings where twil says so.

    Raises:
        ModelError: The model has no such head.
    """

    _tied_weights_keys = {"mlm.weight": "encoder.embeddings.token.weight"}  # noqa: RUF012

    def __init__(self, config: TwilbertConfig) -> None:
        super().__init__(config)
        shape = config.shape
        if not shape.mlm:
            raise ModelError(
                f"{config.name_or_path or 'this model'} has no masked-language head: give a pretrained model"
            )
        self.mlm = nn.Linear(shape.encoder.hidden_size, shape.encoder.vocab_size)
        self.post_init()

    @property
    def kept(self) -> ModelConfig:
        """The shape with no head but this one."""
        shape = self.config.shape
        return ModelConfig(encoder=shape.encoder, mlm=True, tie_word_embeddings=shape.tie_word_embeddings)

    def get_output_embeddings(self) -> nn.Module:
        """Give the head."""
        return self.mlm

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Take another head."""
        self.mlm = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Map int64 ``(B, T)`` to logits float ``(B, T, P)``; labels are int64 ``(B, T)``, or -100."""
        logits = self.mlm(self.encode(input_ids, attention_mask, token_type_ids))  # (B, T, P)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1])
        output = MaskedLMOutput(loss=loss, logits=logits)
        return output.to_tuple() if return_dict is False else output


class TwilbertForSequenceClassification(TwilbertPreTrainedModel):
    """The encoder and a classifier: the model's own, or a new one where it has none."""

    def __init__(self, config: TwilbertConfig) -> None:
        super().__init__(config)
        shape = config.shape
        self.num_labels = config.num_labels
        self.head = shape.classifier or ClassifierConfig()
        self.classifier = ClassifierHead(self.head, shape.encoder.hidden_size, config.num_labels)
        self.trained = False
        self.post_init()

    @property
    def kept(self) -> ModelConfig:
        """The shape with no head but this one.

        What twil tuned on the answers of a model is left out once the model was trained further.
        """
        task = self.config.task
        return ModelConfig(
            encoder=self.config.shape.encoder,
            classifier=self.head,
            task=task.undecided if self.trained else task,
        )

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Map int64 ``(B, T)`` to logits float ``(B, L)``; labels are as the library wants them."""
        self.trained = self.trained or self.training
        logits = classify(self.encoder, self.classifier, input_ids, attention_mask, token_type_ids)  # (B, L)
        loss = None
        if labels is not None:
            loss = self.loss_function(pooled_logits=logits, labels=labels, config=self.config)
        output = SequenceClassifierOutput(loss=loss, logits=logits)
        return output.to_tuple() if return_dict is False else output
