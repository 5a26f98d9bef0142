"""From raw text to token ids: one `tokenizer.json`, the same in training and in serving.

Everything on that way (replacing addresses and mentions, blanks, case, tokens, special tokens, truncation)
is written in the file and run by the `tokenizers` library, but for a preparation that the file names and that
is a step in Python (`twil.text.preparation`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from twil.core.errors import ConfigError, DataError, ModelError, first_line
from twil.core.machine import usable_threads
from twil.core.storage import LFS_POINTER, atomic_file, is_lfs_pointer
from twil.text.normalization import original_normalizer
from twil.text.preparation import find_preparation, prepare
from twil.text.special import SpecialTokens, find_special

SPECIAL = ("[PAD]", "[UNK]", "[MASK]", "[CLS]", "[SEP]")  # ids 0 to 4 of every vocabulary
PAD, UNK, MASK, CLS, SEP = SPECIAL
PAD_ID, UNK_ID, MASK_ID, CLS_ID, SEP_ID = range(len(SPECIAL))
OWN_SPECIAL = SpecialTokens(
    pad=PAD_ID,
    cls=CLS_ID,
    sep=SEP_ID,
    between=1,
    unknown=UNK_ID,
    mask=MASK_ID,
    ids=tuple(range(len(SPECIAL))),
)
"""Those of twil's own vocabularies."""

_PROBE = "¿qué tal? ꙮ"  # with a character that hardly any vocabulary has
_MOST_TOKENS = 2**31 - 1  # of a row
_LONGEST_TOKEN = 20_000  # bytes
_LONGEST_WORD = 200  # characters; the original gives [UNK] for a longer one

# Characters of a text for each token of the longest row; hardly any tweet has more.
_LONG = 4
_CHARACTERS_PER_TOKEN = 64  # more than a row of addresses and mentions has

# A single word of megabytes takes the library gigabytes, so that of a long text no more is read than this.
_READ_CHARACTERS, _MOST_CHARACTERS = 1 << 14, 1 << 20


Encodings: TypeAlias = tuple[list[Encoding], NDArray[np.bool_]]
"""What the library makes of rows, and bool ``(rows,)``: whether something of each was cut off."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of some texts or pairs, without pads.

    Attributes:
        input_ids: The ids of each row, special tokens included.
        segment_ids: For pairs: 0 for the first text, 1 for the second, as long as the ids. None for single
            texts (all 0).
        truncated: bool ``(rows,)``: whether tokens of the row were cut off.
    """

    input_ids: list[list[int]]
    segment_ids: list[list[int]] | None
    truncated: NDArray[np.bool_]


def encode(tokenizer: Tokenizer, texts: Sequence[str | tuple[str, str]]) -> Encoded:
    """Turn raw texts, or pairs of them, into token ids.

    Args:
        tokenizer: As `load_tokenizer` or one of the makers gives it.
        texts: Either all single texts or all pairs.

    Raises:
        DataError: A row holds something other than text, or half a surrogate pair, which is no character.
        ModelError: The tokenizer fails at one.
    """
    try:
        encodings, truncated = encode_batch(tokenizer, texts)
    except TypeError as error:
        raise _not_text(texts) from error
    except BaseException as error:
        if unusable := _unusable(error, "the tokenizer"):
            raise unusable from error
        raise
    pairs = len(texts) > 0 and not isinstance(texts[0], str)
    return Encoded(
        input_ids=[encoding.ids for encoding in encodings],
        segment_ids=[encoding.type_ids for encoding in encodings] if pairs else None,
        truncated=truncated,
    )


def half_character(text: str) -> str | None:
    """Say which lone surrogate a text holds, one half of a surrogate pair; None where it holds none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        which = f"U+{ord(text[error.start]):04X}"
        return f"half a character (a lone surrogate, {which}), which no encoding can write"
    return None


def encode_batch(tokenizer: Tokenizer, texts: Sequence[Any]) -> Encodings:
    """Encode texts or pairs as `tokenizer.encode_batch_fast` does, but for what is cut off.

    The library keeps that, too: of a pair each part of one text with each part of the other, which takes
    memory and time by the product of their lengths. Here long pairs keep a few parts. Where the tokenizer
    wants texts prepared, they are.
    """
    texts, cut = cut_texts(tokenizer, texts)
    encodings = _encode_batch(tokenizer, prepare(tokenizer, texts))
    overflowing = np.fromiter(
        (bool(encoding.overflowing) for encoding in encodings), np.bool_, len(encodings)
    )
    return encodings, overflowing | cut


def cut_texts(tokenizer: Tokenizer, texts: Sequence[Any]) -> tuple[Sequence[Any], NDArray[np.bool_]]:
    """Take of long texts, or of those of pairs, no more than is read.

    That is 64 characters for each token of the longest row, but at least 16,384, and at most 1,048,576.

    Returns:
        The texts, and bool ``(rows,)``: which are cut.
    """
    longest = max_length(tokenizer) or _MOST_CHARACTERS
    most = min(max(_READ_CHARACTERS, _CHARACTERS_PER_TOKEN * longest), _MOST_CHARACTERS)
    part = slice(most) if truncation_side(tokenizer) == "right" else slice(-most, None)
    cut = np.fromiter((_is_longer(text, most) for text in texts), np.bool_, len(texts))
    if not cut.any():
        return texts, cut
    kept = [
        text if not long else text[part] if isinstance(text, str) else tuple(each[part] for each in text)
        for text, long in zip(texts, cut.tolist(), strict=True)
    ]
    return kept, cut


def _is_longer(text: Any, most: int) -> bool:
    return len(text) > most if isinstance(text, str) else any(len(each) > most for each in text)


def _encode_batch(tokenizer: Tokenizer, texts: Sequence[Any]) -> list[Encoding]:
    longest = max_length(tokenizer)
    if longest is None or len(texts) == 0 or isinstance(texts[0], str):
        return tokenizer.encode_batch_fast(texts)
    long = [len(pair) == 2 and min(map(len, pair)) > _LONG * longest for pair in texts]
    if not any(long):
        return tokenizer.encode_batch_fast(texts)
    others = iter(
        tokenizer.encode_batch_fast([pair for pair, apart in zip(texts, long, strict=True) if not apart])
    )
    alone = iter(
        tokenizer.encode_batch_fast([*chain.from_iterable(compress(texts, long))], add_special_tokens=False)
    )
    return [_join(tokenizer, next(alone), next(alone)) if apart else next(others) for apart in long]


def bound_threads(threads: int | None) -> None:
    """Bound the threads of the `tokenizers` library, unless the user has done so, before the first text.

    It has one set of threads for the whole process, which it makes once.
    """
    if threads:
        os.environ.setdefault("RAYON_NUM_THREADS", str(usable_threads(threads)))


def original_tokenizer(vocab_file: str | Path, *, max_length: int, preprocess: bool = True) -> Tokenizer:
    """Make the tokenizer of the original's weights from its vocabulary file.

    Args:
        vocab_file: One token a line; a token that goes on within a word begins with ``##``.
        max_length: The most tokens of a row, special tokens included.
        preprocess: Replace addresses, mentions and the like first, as the original's commands did.

    Raises:
        ModelError: The file is absent or no such vocabulary.
        ConfigError: `max_length` leaves no room for text.
    """
    # TWilBERT: kept: the `▁` of a word's start was written as `##`, which word tokens read as a continuation.
    tokenizer = Tokenizer(
        models.WordPiece(
            _read_vocabulary(Path(vocab_file)), unk_token=UNK, max_input_chars_per_word=_LONGEST_WORD
        )
    )
    tokenizer.normalizer = original_normalizer(preprocess=preprocess)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    frame(tokenizer, max_length)
    return tokenizer


def frame(tokenizer: Tokenizer, max_length: int) -> None:
    """Set the special tokens around one text or two, and the truncation.

    The special tokens are not registered as added tokens: a tweet that says "[SEP]" cannot write one.

    Raises:
        ConfigError: `max_length` leaves no room for text.
    """
    tokenizer.post_processor = TemplateProcessing(
        single=f"{CLS}:0 $A:0 {SEP}:0",
        pair=f"{CLS}:0 $A:0 {SEP}:0 $B:1 {SEP}:1",
        special_tokens=[(CLS, CLS_ID), (SEP, SEP_ID)],
    )
    set_max_length(tokenizer, max_length)


def set_max_length(tokenizer: Tokenizer, max_length: int) -> None:
    """Truncate rows at `max_length` tokens, special tokens included; of a pair the longer text is cut first.

    Texts are cut at the end, or at the beginning where the tokenizer does so already.

    Raises:
        ConfigError: `max_length` leaves no room for two texts.
    """
    if max_length > _MOST_TOKENS:
        raise ConfigError(
            f"no row has {max_length:,} tokens: choose a length of {_MOST_TOKENS:,} or less (--max-length)"
        )
    smallest = tokenizer.num_special_tokens_to_add(is_pair=True) + 2
    if max_length < smallest:  # the library would not truncate at all
        raise ConfigError(
            f"a length of {max_length} tokens leaves no room for text: "
            f"at least {smallest} are needed (a pair has {smallest - 2} special tokens)"
        )
    tokenizer.enable_truncation(max_length, strategy="longest_first", direction=truncation_side(tokenizer))


def max_length(tokenizer: Tokenizer) -> int | None:
    """Return the longest row in tokens, or None where nothing is truncated."""
    return int(tokenizer.truncation["max_length"]) if tokenizer.truncation else None


def truncation_side(tokenizer: Tokenizer) -> str:
    """Return the side on which a long text is cut, ``right`` where nothing is truncated."""
    return str(tokenizer.truncation["direction"]) if tokenizer.truncation else "right"


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load a `tokenizer.json`. Rows come unpadded, whatever padding the file asks of other programs.

    Raises:
        ModelError: The file is absent or not a tokenizer, does not frame texts as encoders want them, or
            names a preparation of texts that this twil does not know.
        MissingExtraError: What their preparation needs is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no tokenizer {path}: make one with twil vocab")
    if is_lfs_pointer(path):
        raise ModelError(f"{path} {LFS_POINTER}")
    content = path.read_bytes()
    check_tokens(content, path)
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"{path} is not a tokenizer.json ({error}): copy or export it again") from error
    tokenizer.no_padding()
    try_tokenizer(tokenizer, str(path))
    find_special(tokenizer, source=str(path))
    find_preparation(tokenizer, source=str(path))
    return tokenizer


def try_tokenizer(tokenizer: Tokenizer, source: str) -> None:
    """Refuse a tokenizer that cannot cut one text or two.

    Raises:
        ModelError: It names the source.
    """
    try:
        tokenizer.encode(_PROBE)
        tokenizer.encode(_PROBE, _PROBE)
    except BaseException as error:
        if unusable := _unusable(error, source):
            raise unusable from error
        raise


def check_tokens(content: bytes, path: str | Path) -> None:
    """Refuse a `tokenizer.json` with a token at whose length the library would crash the process.

    Raises:
        ModelError: It holds one.
    """
    step = _LONGEST_TOKEN // 2  # within a longer token one of such parts holds no quote
    for begin in range(0, len(content) - step, step):
        if content.find(b'"', begin, begin + step) >= 0:
            continue
        name = content[: content.rfind(b'"', 0, begin) + 1][-40:]
        if b"precompiled_charsmap" not in name:  # which is as long as it is, and no token
            raise ModelError(
                f"{path} holds a token of more than {step:,} bytes, and is damaged or none: copy it again"
            )


def save_tokenizer(tokenizer: Tokenizer, path: str | Path) -> None:
    """Write a `tokenizer.json`, whole or not at all.

    The file asks for padding on the right, so that other programs that read it pad as in training.
    """
    pad = find_special(tokenizer, source="the tokenizer").pad
    padded = Tokenizer.from_str(tokenizer.to_str())
    padded.enable_padding(direction="right", pad_id=pad, pad_token=tokenizer.id_to_token(pad))
    with atomic_file(path) as temporary:
        temporary.write_text(padded.to_str(pretty=True), encoding="utf-8")


def tokens_hash(tokenizer: Tokenizer) -> str:
    """Give a SHA-256 of how texts are cut, however rows are truncated and padded."""
    told = json.loads(tokenizer.to_str())
    told["padding"] = told["truncation"] = None
    # Their other properties are for what is decoded, and other programs set them anew.
    told["added_tokens"] = [(token["id"], token["content"]) for token in told["added_tokens"]]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def check_own(tokenizer: Tokenizer, path: Path) -> None:
    """Refuse a tokenizer whose special tokens are not twil's own, with which TWilBERT reads.

    Raises:
        ModelError: It is another.
    """
    text, pair = tokenizer.encode(""), tokenizer.encode("", "")
    framed = (text.ids, pair.ids, pair.type_ids) == ([CLS_ID, SEP_ID], [CLS_ID, SEP_ID, SEP_ID], [0, 0, 1])
    if not framed or [tokenizer.token_to_id(token) for token in SPECIAL] != list(range(len(SPECIAL))):
        raise ModelError(
            f"{path} is a tokenizer of another kind: twil's gives {', '.join(SPECIAL)} the ids 0 to "
            f"{len(SPECIAL) - 1}, and puts a text between {CLS} and {SEP}: make one with twil vocab, "
            "or import the original's with twil import"
        )


def _join(tokenizer: Tokenizer, first: Encoding, second: Encoding) -> Encoding:
    """Make a pair of two texts that are each cut at the longest row already."""
    if _whole_length(first) > _whole_length(second):
        # Of two that are cut, the longer one has the odd token.
        second.truncate(len(first) - 1, direction=truncation_side(tokenizer))
    return tokenizer.post_process(first, second)


def _whole_length(encoding: Encoding) -> int:
    return len(encoding) + sum(map(len, encoding.overflowing))


def _unusable(error: BaseException, source: str) -> ModelError | None:
    """Say that a tokenizer fails; None of what is no error of the library."""
    # A panic of the library is no Exception, and its other errors are nothing narrower.
    if type(error) is Exception or type(error).__name__ == "PanicException":
        return ModelError(f"{source} cannot cut a text ({first_line(error)}): copy or export it again")
    return None


def _not_text(texts: Sequence[object]) -> DataError:
    for number, entry in enumerate(texts, start=1):
        for part in entry if isinstance(entry, tuple) and len(entry) == 2 else (entry,):
            if not isinstance(part, str):
                return DataError(f"text {number} is no text, nor a pair of them")
            if half := half_character(part):
                return DataError(f"text {number} holds {half}: replace it")
    return DataError("something among the texts is neither a text (str) nor a pair of them")


def _read_vocabulary(path: Path) -> dict[str, int]:
    if not path.is_file():
        raise ModelError(f"there is no vocabulary file {path}")
    try:
        tokens = (
            path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        )  # tokens may hold odd line ends
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not a vocabulary: it is not UTF-8 text") from error
    if tuple(tokens[: len(SPECIAL)]) != SPECIAL:
        raise ModelError(
            f"{path} is not a vocabulary of the original: it does not begin with {', '.join(SPECIAL)}"
        )
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        twice = next(token for index, token in enumerate(tokens) if vocabulary[token] != index)
        raise ModelError(f"{path} holds the token '{twice}' twice, so its ids are not certain")
    return vocabulary
