"""Tiny models of the transformers library, with random weights, as their authors would have saved them."""

from __future__ import annotations

import csv
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import EXAMPLES
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

FAMILIES = ("bert", "distilbert", "roberta", "camembert", "xlm-roberta", "electra")
ANGLED = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
SQUARE = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY, POSITIONS, HIDDEN, HEADS, LAYERS = 400, 64, 32, 4, 2


def library() -> Any:
    """Give the transformers library, or skip the test that wants it."""
    return pytest.importorskip("transformers", reason="the extra 'hub' is not installed")


@functools.cache
def texts() -> list[str]:
    """Give the example tweets."""
    with (EXAMPLES / "tweets_train.tsv").open(encoding="utf-8") as file:
        return [row["TEXT"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


@functools.cache
def make_tokens(family: str) -> Any:
    """Make a tokenizer of the library of a family's kind."""
    transformers = library()
    if family in ("bert", "distilbert", "electra"):
        trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trained.train_from_iterator(
            texts(),
            trainers.WordPieceTrainer(
                vocab_size=VOCABULARY, special_tokens=list(SQUARE), show_progress=False
            ),
        )
        return transformers.BertTokenizer(vocab=trained.get_vocab(), do_lower_case=True)
    if family == "roberta":
        trained = Tokenizer(models.BPE())
        trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trained.train_from_iterator(
            texts(),
            trainers.BpeTrainer(
                vocab_size=VOCABULARY,
                special_tokens=list(ANGLED),
                initial_alphabet=alphabet,
                show_progress=False,
            ),
        )
        told = json.loads(trained.to_str())["model"]
        merges = [tuple(pair) for pair in told["merges"]]
        return transformers.RobertaTokenizer(vocab=told["vocab"], merges=merges)
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(
        texts(),
        trainers.UnigramTrainer(
            vocab_size=VOCABULARY, special_tokens=list(ANGLED), unk_token="<unk>", show_progress=False
        ),
    )
    tokens = [(token, score) for token, score in json.loads(trained.to_str())["model"]["vocab"]]
    kind = transformers.CamembertTokenizer if family == "camembert" else transformers.XLMRobertaTokenizer
    return kind(vocab=tokens)


def make_config(family: str, tokens: Any, **more: Any) -> Any:
    """Make the configuration of a tiny model of a family."""
    transformers = library()
    kinds = {
        "bert": transformers.BertConfig,
        "distilbert": transformers.DistilBertConfig,
        "roberta": transformers.RobertaConfig,
        "camembert": transformers.CamembertConfig,
        "xlm-roberta": transformers.XLMRobertaConfig,
        "electra": transformers.ElectraConfig,
    }
    sizes: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * HIDDEN,
    }
    if family == "distilbert":
        sizes = {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": 2 * HIDDEN}
    if family == "electra":
        sizes["embedding_size"] = HIDDEN // 2
    # RoBERTa and its kin count positions from behind the pad's.
    ahead = tokens.pad_token_id + 1 if family in ("roberta", "camembert", "xlm-roberta") else 0
    if ahead:
        sizes["type_vocab_size"] = 1
    return kinds[family](
        vocab_size=len(tokens),
        max_position_embeddings=POSITIONS + ahead,
        pad_token_id=tokens.pad_token_id,
        bos_token_id=tokens.cls_token_id,
        eos_token_id=tokens.sep_token_id,
        initializer_range=0.3,  # logits of different texts differ
        **sizes,
        **more,
    )


def make_hub_folder(folder: Path, family: str, head: str = "mlm", *, seed: int = 1, **more: Any) -> Path:
    """Write a tiny model of a family.

    Args:
        folder: Where.
        family: One of `FAMILIES`.
        head: ``mlm``, ``classifier`` or ``none``.
        seed: Of the weights.
        **more: Of the configuration, such as `id2label`.
    """
    import torch

    transformers = library()
    tokens = make_tokens(family)
    torch.manual_seed(seed)
    kinds = {
        "mlm": transformers.AutoModelForMaskedLM,
        "classifier": transformers.AutoModelForSequenceClassification,
        "none": transformers.AutoModel,
    }
    if head == "classifier" and len(more.get("id2label", "ab")) > 1:  # as training with the library leaves it
        more.setdefault("problem_type", "single_label_classification")
    network = kinds[head].from_config(make_config(family, tokens, **more))
    network.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


def make_kin_folder(folder: Path, kind: str, **shape: Any) -> Path:
    """Write a tiny classifier of three labels of any type that the library knows, with BERT's tokenizer.

    Args:
        folder: Where.
        kind: The library's name of the type.
        **shape: Of the configuration, which is BERT's when left out, and the library's where it is None.
    """
    import torch

    transformers = library()
    tokens = make_tokens("bert")
    special = {f"{name}_token_id": getattr(tokens, f"{name}_token_id") for name in ("pad", "cls", "sep")}
    special |= {"bos_token_id": tokens.cls_token_id, "eos_token_id": tokens.sep_token_id}
    bert: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * HIDDEN,
        "max_position_embeddings": POSITIONS,
    }
    told = {name: value for name, value in (bert | shape).items() if value is not None}
    config = transformers.AutoConfig.for_model(kind, vocab_size=len(tokens), num_labels=3, **special, **told)
    config.problem_type = "single_label_classification"
    torch.manual_seed(1)
    network = transformers.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)  # logits of different texts differ
    network.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


def their_logits(folder: Path, rows: list[Any]) -> np.ndarray[Any, Any]:
    """Ask the library itself, row by row."""
    import torch

    transformers = library()
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)
    found = []
    for row in rows:
        parts = (row,) if isinstance(row, str) else row
        inputs = tokens(*parts, truncation=True, max_length=POSITIONS, return_tensors="pt")
        with torch.inference_mode():
            found.append(network(**inputs).logits[0].numpy())
    return np.stack(found)
