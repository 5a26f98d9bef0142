"""The tokens of `tokenizer.json` as a model of SentencePiece, whose tokenizer there is an operator for."""

from __future__ import annotations

import functools
import itertools
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers.normalizers import NFC, Lowercase, Sequence

from twil.core.errors import require
from twil.exporting.text_graph.steps import MASK_MARK, is_lowercased, unsupported
from twil.text.tokenizer import CLS, CLS_ID, MASK_ID, PAD, PAD_ID, SEP, SEP_ID, SPECIAL, UNK, UNK_ID

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4  # SentencePiece's numbers, here and below
_KINDS = {"Unigram": 1, "BPE": 2}
_PLAIN_BPE = {
    "dropout": None,
    "unk_token": UNK,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": True,
    "ignore_merges": False,
}

_HANGUL = frozenset(map(chr, range(0xAC00, 0xD7A4)))  # syllables, whose parts Unicode computes


def sentencepiece_model(tokenizer: Mapping[str, Any]) -> bytes:
    """Write the model that gives a normalised text the tokens of `tokenizer.json`, composing letters first.

    Args:
        tokenizer: What `tokenizer.json` says.

    Raises:
        ExportError: Its tokens are of another kind.
        MissingExtraError: sentencepiece is not installed.
    """
    require("sentencepiece", purpose="--text-in")
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    for index, (token, score) in enumerate(_vocabulary(tokenizer["model"])):
        kind = {UNK_ID: _UNKNOWN, MASK_ID: _USER_DEFINED}.get(index, _CONTROL)
        model.pieces.add(
            piece=MASK_MARK if index == MASK_ID else token,
            score=score,
            type=_NORMAL if index >= len(SPECIAL) else kind,
        )
    trained = model.trainer_spec
    trained.model_type, trained.vocab_size = _KINDS[tokenizer["model"]["type"]], len(model.pieces)
    trained.pad_id, trained.unk_id, trained.bos_id, trained.eos_id = PAD_ID, UNK_ID, CLS_ID, SEP_ID
    trained.pad_piece, trained.unk_piece, trained.bos_piece, trained.eos_piece = PAD, UNK, CLS, SEP
    model.normalizer_spec.CopyFrom(_normalizer(_rules(lowercase=is_lowercased(tokenizer))))
    return bytes(model.SerializeToString())


def _vocabulary(model: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Give tokens with their scores, in the order of their ids."""
    if model["type"] not in _KINDS or model["byte_fallback"]:
        raise unsupported(
            f"it is of the kind {model['type']}, and only Unigram and BPE without bytes will do"
        )
    vocabulary: list[tuple[str, float]] = model["vocab"] if model["type"] == "Unigram" else _merged(model)
    known = {token for token, _ in vocabulary}
    # The two libraries rate unknown characters differently, which shows only where a token holds one.
    if any(character not in known for token, _ in vocabulary for character in token):
        raise unsupported("a token of it holds a character that is no token itself")
    return vocabulary


def _merged(model: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Score tokens by how early they are merged; SentencePiece merges whatever makes the best of them."""
    if {key: model.get(key) for key in _PLAIN_BPE} != _PLAIN_BPE:
        raise unsupported("its merges are not those that twil vocab makes")
    scores: dict[str, float] = {}
    for rank, (first, second) in enumerate(model["merges"]):
        scores.setdefault(first + second, -float(rank))
    return [
        (token, scores.get(token, 0.0)) for token in sorted(model["vocab"], key=model["vocab"].__getitem__)
    ]


def _normalizer(rules: Mapping[str, str]) -> Any:
    """Make the normaliser that follows rules and does nothing else."""
    sentencepiece = require("sentencepiece", purpose="--text-in")
    from sentencepiece import sentencepiece_model_pb2

    sentencepiece.set_min_log_level(2)  # it would tell of its reading a file
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "rules.tsv"
        lines = (
            f"{_points(spelling)}\t{_points(character)}\n" for spelling, character in sorted(rules.items())
        )
        table.write_text("".join(lines), encoding="utf-8")
        normalizer = sentencepiece.SentencePieceNormalizer(rule_tsv=str(table))
    made = sentencepiece_model_pb2.ModelProto()
    made.ParseFromString(normalizer.serialized_model_proto())
    spec = made.normalizer_spec
    spec.name = "twil"
    # The steps before have done this.
    spec.add_dummy_prefix, spec.remove_extra_whitespaces, spec.escape_whitespaces = False, False, True
    spec.ClearField("normalization_rule_tsv")
    return spec


@functools.cache  # of Unicode alone, and half a second's work
def _rules(*, lowercase: bool) -> Mapping[str, str]:
    """Map every spelling of a character that NFC, and lower case where wanted, change to what they make."""
    normalize = (Sequence([NFC(), Lowercase()]) if lowercase else NFC()).normalize_str
    characters = [chr(point) for point in range(0x30000) if not 0xD800 <= point < 0xE000]
    spelt = {spelling for character in characters for spelling in _spellings(character)}
    # Unicode has some characters twice, such as the letter K as the sign of kelvin.
    twins = {single: character for character in characters if (single := _single(character))}
    spelt |= {
        f"{spelling[:place]}{twins[letter]}{spelling[place + 1 :]}"
        for spelling in spelt
        for place, letter in enumerate(spelling)
        if letter in twins
    }
    if lowercase:
        spelt.update(character for character in characters if character.lower() != character)
    made = {spelling: normalize(spelling) for spelling in spelt}
    return {spelling: character for spelling, character in made.items() if spelling != character}


def _spellings(character: str) -> Iterator[str]:
    """Give the spellings of one character: composed, in part, not at all, its marks in any order."""
    if character in _HANGUL:
        apart = unicodedata.normalize("NFD", character)
        yield apart
        yield unicodedata.normalize("NFC", apart[:2]) + apart[2:]
        return
    parts = unicodedata.decomposition(character)
    if not parts or parts.startswith("<"):
        return
    yield character
    first, *rest = (chr(int(part, 16)) for part in parts.split())
    for start in (first, *_spellings(first)):
        yield start + "".join(rest)
    apart = unicodedata.normalize("NFD", character)
    for marks in itertools.permutations(apart[1:]):
        yield apart[0] + "".join(marks)


def _single(character: str) -> str:
    """Give the one character that a character is another code for; empty for nearly all."""
    parts = unicodedata.decomposition(character).split()
    return chr(int(parts[0], 16)) if len(parts) == 1 else ""


def _points(text: str) -> str:
    return " ".join(f"{ord(character):X}" for character in text)
