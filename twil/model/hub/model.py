"""An encoder of the transformers library, with one of its heads, as a model of twil."""

# B batch   T tokens   N tokens of all rows   D hidden   P vocabulary   L outputs

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from twil.bundle.architecture import Architecture
from twil.config.model import Pooling
from twil.core.errors import ConfigError, ModelError, first_line
from twil.core.task import Task
from twil.model.heads import ClassifierHead
from twil.model.hub.library import import_transformers
from twil.model.hub.sentence import SentenceModules, SentenceVectors
from twil.model.packing import Packing
from twil.model.text_model import TextModel, parameter_count

HubHead = Literal["classifier", "mlm", "none"]

_PASSING = frozenset({"_name_or_path", "architectures", "dtype", "transformers_version", "twil"})
"""What a configuration says of how it was written, not of the model."""


class HubModel(TextModel):
    """A network of the transformers library.

    Args:
        network: For sequence classification, for masked language modelling, or bare.
        head: Which of these it is.
        task: What its classifier is asked.
        longest: The most tokens that its tokenizer is meant to give, if it says so: the bound to rows where
            the network has none.
        sentence: What sentence-transformers wrote of its vectors, if it did.
        classifier: The classifier that twil puts on a bare network.
        input_dropout: The share of channels of the embeddings that training drops in each row.

    Raises:
        ModelError: Its network cannot leave pads out, or sets no bound to rows.
    """

    def __init__(
        self,
        network: Any,
        head: HubHead,
        task: Task | None = None,
        longest: int | None = None,
        sentence: SentenceModules | None = None,
        classifier: ClassifierHead | None = None,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.head = head
        self.sentence = sentence
        self.classifier = classifier
        self.input_dropout = nn.Dropout1d(input_dropout)
        self._task = task
        inputs = inspect.signature(self.encoder.forward).parameters
        if "attention_mask" not in inputs:
            raise ModelError(
                f"{type(network).__name__} takes no mask, so that its answer to a text depends on the texts "
                "beside it: give another model"
            )
        self.takes_segments = "token_type_ids" in inputs and getattr(network.config, "type_vocab_size", 0) > 1
        bounds = [bound for bound in _positions(self.encoder) if bound] or ([longest] if longest else [])
        if not bounds:
            raise ModelError(
                f"{type(network).__name__} does not say how long a row may be: give another model"
            )
        self._longest = min(bounds)
        if input_dropout:
            self.depths  # noqa: B018 - an error where the embeddings cannot be told apart
            self.encoder.embeddings.register_forward_hook(self._drop_channels)

    @property
    def encoder(self) -> Any:
        """The network without its head."""
        return self.network.base_model

    @property
    def architecture(self) -> Architecture:
        """What the model is made of."""
        config = self.network.config
        return Architecture(
            type=config.model_type,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            hidden=config.hidden_size,
            vocabulary=len(self.network.get_input_embeddings().weight),
            parameters=parameter_count(self),
        )

    @property
    def max_positions(self) -> int:
        """The longest row in tokens, special ones included."""
        return self._longest

    @property
    def description(self) -> dict[str, Any]:
        """The shape, the head and the task in JSON's types."""
        config = {
            name: value for name, value in self.network.config.to_dict().items() if name not in _PASSING
        }
        return {
            **config,
            "head": self.head,
            "classifier": self.classifier and self.classifier.config.model_dump(),
            "input_dropout": self.input_dropout.p,
            "task": self._task and self._task.as_dict(),
        }

    @property
    def facts(self) -> dict[str, str]:
        """What a reader of its card or report is told of the shape, in words."""
        made = self.architecture
        return {
            "architecture": type(self.network).__name__,
            "layers": str(made.layers),
            "hidden size": f"{made.hidden:,}",
            "attention heads": str(made.heads),
            "vocabulary": f"{made.vocabulary:,} tokens",
            "parameters": f"{made.parameters:,}",
        }

    @property
    def own_task(self) -> Task | None:
        """What the classifier is asked; None without a classifier."""
        return self._task

    def set_task(self, task: Task) -> None:
        """Ask the same classifier under other names, or decide its answers otherwise."""
        self._task = task

    @property
    def has_mlm(self) -> bool:
        """Whether there is a masked-language head."""
        return self.head == "mlm"

    @property
    def ties_mlm(self) -> bool:
        """Whether that head's weights are the token embeddings."""
        output = self.network.get_output_embeddings() if self.has_mlm else None
        return output is not None and output.weight is self.network.get_input_embeddings().weight

    @property
    def pooling(self) -> Pooling | None:
        """How twil's classifier makes one vector of a row; the library's do so in their own ways."""
        return self.classifier.pooling if self.classifier else None

    def own_vectors(self) -> SentenceVectors | None:
        """Build what makes vectors of hidden states as the folder says; None where it says nothing.

        Raises:
            ModelError: That cannot be computed.
        """
        return self.sentence.make_vectors(self.architecture.hidden) if self.sentence else None

    @property
    def token_embeddings(self) -> Tensor:
        """The vectors that tokens are looked up in, float ``(P, E)``."""
        weight: Tensor = self.network.get_input_embeddings().weight
        return weight

    @property
    def depths(self) -> list[nn.Module]:
        """The encoder's parts from the bottom: the embeddings, then each layer.

        Raises:
            ConfigError: Its layers cannot be told apart.
        """
        embeddings = getattr(self.encoder, "embeddings", None)
        count = self.network.config.num_hidden_layers
        stacks = [
            part for part in self.encoder.modules() if isinstance(part, nn.ModuleList) and len(part) == count
        ]
        if not isinstance(embeddings, nn.Module) or not stacks:
            raise ConfigError(
                f"the layers of {type(self.network).__name__} cannot be told apart: leave train.freeze and "
                "train.layer_decay out"
            )
        layers = stacks[0]
        above = {id(parameter) for parameter in layers.parameters()}
        # Some have more of them than in that part, such as ELECTRA's projection.
        below = [
            parameter
            for name, parameter in self.encoder.named_parameters()
            if "embedding" in name and id(parameter) not in above
        ]
        return [nn.ParameterList(below), *layers]

    @property
    def on_encoder(self) -> list[str]:
        """The names of the parameters that lie on the encoder: those of the heads, and of a pooler."""
        below = {id(each) for name, each in self.encoder.named_parameters() if "pooler" not in name}
        return [name for name, parameter in self.named_parameters() if id(parameter) not in below]

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, segment_ids: Tensor | None = None
    ) -> Tensor:
        """Compute hidden states float ``(B, T, D)``, as `TextModel.encode` says."""
        output = self.encoder(**self._inputs(input_ids, attention_mask, segment_ids))
        hidden: Tensor = output.last_hidden_state
        return hidden

    def encode_packed(
        self,
        input_ids: Tensor,
        segment_ids: Tensor,
        packing: Packing,
        attention_mask: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Compute hidden states float ``(N, D)`` of packed rows, as `TextModel.encode_packed` says.

        These encoders know no packed rows, so the rows are padded on the way through.
        """
        lengths = list(packing.lengths)

        def rows(values: Tensor) -> Tensor:
            return pad_sequence(list(torch.split(values, lengths)), batch_first=True)  # (B, T)

        # Rows of nothing but pads may look at themselves: what sees nothing at all may have no gradient.
        visible = rows(torch.ones_like(input_ids))
        packed: Tensor = self.encode(rows(input_ids), visible, rows(segment_ids))[visible != 0]
        return packed

    def mlm_logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states float ``(…, D)`` to logits over the vocabulary ``(…, P)``.

        Raises:
            ModelError: The model has no such head.
        """
        if not self.has_mlm:
            raise ModelError("this model has no masked-language head")
        flat = hidden.reshape(1, -1, hidden.shape[-1])  # (1, M, D)
        logits: Tensor = _head_of(self.network, flat)(flat.new_zeros(flat.shape[:2], dtype=torch.long)).logits
        return logits.reshape(*hidden.shape[:-1], logits.shape[-1])

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, segment_ids: Tensor | None = None
    ) -> Tensor:
        """Compute the classifier's logits float ``(B, L)``; arguments as for `encode`.

        Raises:
            ModelError: The model has no classifier.
        """
        if self.classifier is not None:
            if attention_mask is None:
                attention_mask = torch.ones_like(input_ids)
            hidden = self.encode(input_ids, attention_mask, segment_ids)
            pooled: Tensor = self.classifier(hidden, self.classifier.pooled_tokens(input_ids, attention_mask))
            return pooled
        if self.head != "classifier":
            raise ModelError("this model has no classifier yet: make one with twil finetune")
        logits: Tensor = self.network(**self._inputs(input_ids, attention_mask, segment_ids)).logits
        return logits

    def compile_layers(self) -> None:
        """Compile the encoder with torch.compile."""
        self.encoder.compile(dynamic=True)

    def _drop_channels(self, _: nn.Module, __: Any, embedded: Tensor) -> Tensor:
        dropped: Tensor = self.input_dropout(embedded.transpose(1, 2)).transpose(1, 2)  # (B, T, D)
        return dropped

    def _inputs(
        self, input_ids: Tensor, attention_mask: Tensor | None, segment_ids: Tensor | None
    ) -> dict[str, Tensor]:
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.takes_segments and segment_ids is not None:
            inputs["token_type_ids"] = segment_ids
        elif segment_ids is not None and torch.onnx.is_in_onnx_export():
            # A graph loses an input that nothing reads, and those of all models are to have the same.
            inputs["input_ids"] = input_ids + segment_ids * 0
        return inputs


def draw_mlm(model: HubModel) -> HubModel:
    """Put a new masked-language head on a model's encoder, whose weights are those of its token embeddings.

    Raises:
        ModelError: The library has no such head for the encoder.
    """
    library = import_transformers()
    config = copy.deepcopy(model.network.config)
    config.tie_word_embeddings = True
    try:
        network = library.AutoModelForMaskedLM.from_config(config)
        # A pooler is left over there, and nothing is lacking.
        fit = network.base_model.load_state_dict(model.encoder.state_dict(), strict=False)
    except (ValueError, RuntimeError) as error:
        raise ModelError(
            f"{type(model.network).__name__} cannot have a masked-language head ({first_line(error)}): give "
            "another model"
        ) from error
    assert not fit.missing_keys
    network.tie_weights()
    return HubModel(network, "mlm", longest=model.max_positions, input_dropout=model.input_dropout.p)


class _Given(nn.Module):
    """Stands in an encoder's place, and gives hidden states that are there already."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, *_: Any, **__: Any) -> Any:
        output = import_transformers().modeling_outputs.BaseModelOutput
        return output(last_hidden_state=self.hidden)


def _head_of(network: Any, hidden: Tensor) -> Any:
    """Give a network whose encoder is `_Given`: the weights of its head are the network's own."""
    head = copy.copy(network)
    head._modules = network._modules | {network.base_model_prefix: _Given(hidden)}
    return head


def _positions(encoder: Any) -> Iterator[int | None]:
    """Give the bounds that an encoder sets to a row's tokens: by its positions, and by its configuration."""
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    weight, pad = getattr(table, "weight", None), getattr(table, "padding_idx", None)
    if isinstance(weight, Tensor):
        # RoBERTa and its kin count positions from behind the pad's.
        yield len(weight) - (0 if pad is None else pad + 1)
    yield getattr(encoder.config, "max_position_embeddings", None)
