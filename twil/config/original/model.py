"""The model that a file of the original describes: the sections `representation` and `model`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twil.core.errors import ConfigError

MODEL_SETTINGS = frozenset(
    {
        *("representation.max_len", "representation.max_len_training"),
        *("model.factorize_embeddings", "model.cross_sharing", "model.embedding_size", "model.hidden_size"),
        *("model.n_encoders", "model.n_heads", "model.attention_size", "model.input_dropout"),
        *("model.output_dropout", "model.initializer_range", "model.pkm"),
        *("model.pkm_params.factorize_embeddings", "model.pkm_params.k_dim", "model.pkm_params.memory_size"),
        *("model.pkm_params.n_heads", "model.pkm_params.knn", "model.pkm_params.in_layers"),
        *("model.pkm_params.input_dropout", "model.pkm_params.output_dropout", "model.pkm_params.batch_norm"),
        *("model.rop.use_rop", "model.rop.n_hidden", "model.rop.hidden_size"),
    }
)
"""The settings that are read here, by their paths in the file."""

BUCKETS = {
    "representation.bucket_": "bucket_min_a … bucket_steps no longer apply: rows are batched by length",
}


def text_length(value: Mapping[str, Any]) -> int:
    """Return the longest text in tokens that the model was made for."""
    representation = value["representation"]
    # The test configurations call the trained length `max_len_training`.
    length = int(representation.get("max_len_training") or representation["max_len"])
    if length < 1:
        raise ConfigError(f"representation.max_len is {length}, which leaves no room for text")
    return length


def row_length(length: int) -> int:
    """Return the longest row in tokens: two texts and three special tokens."""
    return 2 * length + 3


def pair_note(length: int) -> str:
    """Say how pairs are cut."""
    return (
        f"max_len {length}: a pair may have {row_length(length)} tokens in all, where the original cuts each "
        f"text at {length}"
    )


def encoder_fields(model: Mapping[str, Any], length: int) -> dict[str, Any]:
    """Give the fields of `EncoderConfig` but the vocabulary's size.

    Args:
        model: The section `model`.
        length: The longest text in tokens.
    """
    fields: dict[str, Any] = {
        "hidden_size": model["hidden_size"],
        "n_layers": model["n_encoders"],
        "n_heads": model["n_heads"],
        # Without heads, the encoder's own check says so.
        "head_size": model.get("attention_size") or model["hidden_size"] // (model["n_heads"] or 1),
        "share_layers": model["cross_sharing"],
        "max_positions": row_length(length) + 1,
        "input_dropout": model.get("input_dropout") or 0.0,
        "output_dropout": model.get("output_dropout") or 0.0,
        "initializer_range": model.get("initializer_range") or 0.02,
    }
    if model["factorize_embeddings"]:
        fields["embedding_size"] = model["embedding_size"]
    if memory := memory_of(model):
        fields["memory"] = _memory_fields(memory)
    return fields


def memory_of(model: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Give the settings of the product-key memory, where there is one."""
    memory: Mapping[str, Any] | None = model["pkm_params"] if model.get("pkm") else None
    return memory or None


def _memory_fields(params: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields of `MemoryConfig`."""
    return {
        "layers": list(params["in_layers"]),
        "n_heads": params["n_heads"],
        "n_keys": params["memory_size"],
        "key_size": params["k_dim"],
        "knn": params["knn"],
        # TWilBERT: its flag is inverted and its statistics are not saved; nothing is left to normalise with.
        "query_norm": False,
        "input_dropout": params.get("input_dropout") or 0.0,
        "output_dropout": params.get("output_dropout") or 0.0,
    }


def rop_fields(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give the fields of `RopConfig`; None where reply order is not learned."""
    rop = model.get("rop") or {}
    if not rop.get("use_rop", bool(rop)):
        return None
    n_hidden = rop.get("n_hidden", 0)
    return {"n_hidden": n_hidden, **({"hidden_size": rop["hidden_size"]} if n_hidden else {})}


def difference_notes(model: Mapping[str, Any]) -> list[str]:
    """Say what the section `model` asks for that is done differently."""
    notes = []
    memory = memory_of(model)
    if model.get("output_dropout"):
        notes.append("output_dropout acts in training only; the original applies it when predicting too")
    if memory and memory.get("factorize_embeddings"):
        notes.append("pkm_params.factorize_embeddings is ignored: the original has no code behind it")
    return notes


def idle_notes(model: Mapping[str, Any]) -> Iterator[str]:
    """Say which settings of the section `model` others make idle."""
    if not memory_of(model) and model.get("pkm_params"):
        yield "pkm_params is not used: pkm is off"
    own_size = model.get("embedding_size", model["hidden_size"]) != model["hidden_size"]
    if not model["factorize_embeddings"] and own_size:
        yield "embedding_size is not used: factorize_embeddings is off"
    if "hidden_size" in (model.get("rop") or {}) and not (rop_fields(model) or {}).get("n_hidden"):
        yield "rop.hidden_size is not used: its head has no hidden layer"
