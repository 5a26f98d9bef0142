"""The `config.json` of a TWilBERT model, as the transformers library reads and writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from twil.config.model import ModelConfig
from twil.core.task import Task
from twil.model.hub.description import CLASSIFIER, CONFIG, HubDescription, under_names
from twil.model.hub.reading import ask
from twil.model.twilbert import MODEL_TYPE
from twil.model.twilbert_folder import FORMAT, read_shape


class TwilbertConfig(PreTrainedConfig):  # type: ignore[misc]  # the library is not typed
    """What twil says of a model, and the library's own settings beside it.

    Args:
        model: Shape, heads and task, as `ModelConfig.as_dict` gives them.
        format: Of the folder.
        tokenizer_sha256: Of the `tokenizer.json` that the weights belong to.
        **settings: The library's. Labels and the kind of the problem are the task's where they are left out.

    Raises:
        ModelError: It is of another format.
        ConfigError: It does not describe a model.
    """

    model_type = MODEL_TYPE
    has_no_defaults_at_init = True

    def __init__(
        self,
        model: Mapping[str, Any] | None = None,
        format: int = FORMAT,  # noqa: A002
        tokenizer_sha256: str | None = None,
        **settings: Any,
    ) -> None:
        source = Path(settings.get("name_or_path") or MODEL_TYPE) / CONFIG
        shape = read_shape(source, {"format": format, "model": model})
        self.format, self.tokenizer_sha256 = format, tokenizer_sha256
        self.describe(shape)
        settings["tie_word_embeddings"] = shape.tie_word_embeddings
        super().__init__(**settings)
        if shape.task is not None and not {"id2label", "num_labels"} & settings.keys():
            ask(self, shape.task)

    @property
    def shape(self) -> ModelConfig:
        """The shape, the heads and the task that twil knows."""
        return ModelConfig.parse(self.model, source=MODEL_TYPE)

    def describe(self, shape: ModelConfig) -> None:
        """Say what `shape` says."""
        self.model = shape.as_dict()

    @property
    def task(self) -> Task:
        """What a classifier with the library's labels is asked.

        Where the folder's own task has as many, it is that one under these names: the library knows nothing
        of pairs, temperatures and thresholds.

        Raises:
            ModelError: The labels do not describe a task.
        """
        told = {"architectures": [CLASSIFIER], "id2label": self.id2label, "problem_type": self.problem_type}
        named = HubDescription(Path(MODEL_TYPE), told).task
        assert named is not None
        return under_names(self.shape.task, named)

    @property
    def vocab_size(self) -> int:
        """Tokens that have an embedding."""
        return self.shape.encoder.vocab_size

    @vocab_size.setter
    def vocab_size(self, tokens: int) -> None:
        self.model = {**self.model, "encoder": {**self.model["encoder"], "vocab_size": tokens}}

    @property
    def hidden_size(self) -> int:
        """D."""
        return self.shape.encoder.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        """How many layers there are."""
        return self.shape.encoder.n_layers

    @property
    def num_attention_heads(self) -> int:
        """How many heads a layer has."""
        return self.shape.encoder.n_heads

    @property
    def max_position_embeddings(self) -> int:
        """The longest row in tokens, special ones included."""
        return self.shape.encoder.max_positions
