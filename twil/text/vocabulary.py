"""New vocabularies: tokens trained with sentencepiece, used through `tokenizers`.

Texts are normalised for training by the very normaliser that goes into `tokenizer.json`, so the tokens are
learned from what they will meet.
"""

from __future__ import annotations

import io
import random
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.normalizers import Normalizer

from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError, DataError, first_line, require
from twil.data.tables.rows import listed_names
from twil.data.tables.tables import TableReader
from twil.text.normalization import URL, USER, tweet_normalizer
from twil.text.tokenizer import CLS, CLS_ID, MASK, PAD, PAD_ID, SEP, SEP_ID, SPECIAL, UNK, UNK_ID, frame

TokenModel = Literal["unigram", "bpe"]

TEXT_COLUMNS = ("TEXT", "ORIG_TEXT", "REPLY_TEXT")

# One character in 10,000 may stay unknown. Emoji lie in the tail: at the usual 1 in 2,000, 278,990 Spanish
# tweets kept 278 characters, at this one 763.
_CHARACTER_COVERAGE = 0.9999

# Threads share out the sums of the training, so their number changes the last digits of the scores: it is
# fixed, for the same vocabulary on every machine.
_THREADS = 8

# Scores are rounded to this fraction. Sums of them are then exact in single precision, and a tie ("ja" +
# "jaja" or "jaja" + "ja") is one for every encoder, not settled by the noise of what came before it.
_SCORE_STEP = 1 / 1024

# Worse than any five characters, so that the special tokens, which a unigram model must hold, are never read
# in a text: those characters are always in the vocabulary.
NEVER = -10_000.0
SPECIAL_CHARACTERS = "".join(sorted(set("".join(SPECIAL))))

_RESERVED = "▅"  # sentencepiece drops a whole text for this character, its own mark of the unknown
_READ_CHARACTERS = 1 << 13  # of a text
_MOST_TOKENS = 10_000_000


@dataclass(frozen=True)
class TrainedVocabulary:
    """A tokenizer with new tokens, and what it was made from.

    Attributes:
        tokenizer: Ready to use and to save.
        sentencepiece: The trained model as sentencepiece stores it (its scores not rounded).
        rows_read: Texts that were offered.
        rows_used: Texts that the tokens were learned from: drawn for the sample, and not blank.
        tokens: How many ids there are.
        seconds: What it took.
    """

    tokenizer: Tokenizer
    sentencepiece: bytes
    rows_read: int
    rows_used: int
    tokens: int
    seconds: float


def texts_of(
    files: Iterable[str | Path], columns: Sequence[str] | None = None, reading: Reading = AS_FOUND
) -> Iterator[str]:
    """Read the texts of pair files, labelled files and plain text files, in any mix, as a stream.

    Args:
        files: Tables, or ``.txt`` files with one text a line.
        columns: Which columns hold text; when left out, those named TEXT, ORIG_TEXT or REPLY_TEXT.
        reading: How all files are read, as far as their names and first lines do not tell.

    Raises:
        DataError: A file cannot be read, or has no column of text.
    """
    for file in files:
        for rows in TableReader(file, columns, reading=reading) if columns else _open_texts(file, reading):
            for column in rows.columns.values():
                yield from column


def train_vocabulary(
    texts: Iterable[str],
    *,
    size: int = 30_000,
    model: TokenModel = "unigram",
    lowercase: bool = False,
    strip_accents: bool = False,
    max_length: int = 128,
    sample: int = 500_000,
    seed: int = 0,
) -> TrainedVocabulary:
    """Learn tokens from texts.

    The same texts in the same order and the same settings give the same `tokenizer.json`, byte for byte.

    Args:
        texts: Raw texts, read once and not kept.
        size: How many ids, the five special ones included.
        model: `unigram` (tokens by likelihood) or `bpe` (tokens by merges).
        lowercase: Lower-case texts.
        strip_accents: Take accents away, from ``ñ`` too.
        max_length: The most tokens of a row, special tokens included.
        sample: From how many texts to learn; of more, that many are drawn at random.
        seed: Of that draw.

    Raises:
        ConfigError: The texts cannot give that many tokens, `size` is too small for their characters, or
            another setting is impossible.
        DataError: There is no text.
        MissingExtraError: sentencepiece is not installed.
    """
    if model not in get_args(TokenModel):
        raise ConfigError(
            f"there is no token model '{model}': choose one of {', '.join(get_args(TokenModel))}"
        )
    if size <= len(SPECIAL):
        raise ConfigError(f"{size} tokens are too few: the special ones alone take {len(SPECIAL)}")
    if size > _MOST_TOKENS:
        raise ConfigError(f"{size:,} tokens are more than any model has: choose at most {_MOST_TOKENS:,}")
    if sample < 1:
        raise ConfigError(f"a sample of {sample} texts is none: choose at least 1")
    frame(Tokenizer(models.BPE()), max_length)  # a length that is no good is refused before the work
    start = time.perf_counter()
    normalizer = tweet_normalizer(lowercase=lowercase, strip_accents=strip_accents)
    drawn, rows_read = _draw(texts, sample, random.Random(seed))
    lines = [line for line in map(normalizer.normalize_str, drawn) if line]
    if not lines:
        raise DataError(
            f"there is no text to learn tokens from: of {rows_read} rows, none or only blank ones"
        )
    _try_threads()
    trained = _train_tokens(lines, size, model)
    tokenizer = tokens_tokenizer(trained, model, normalizer, max_length=max_length)
    if any(len(tokenizer.encode(word, add_special_tokens=False)) > 1 for word in (URL, USER)):
        raise ConfigError(
            f"a vocabulary of {size} tokens has no room for '{URL}' and '{USER}': choose a larger size"
        )
    return TrainedVocabulary(
        tokenizer=tokenizer,
        sentencepiece=trained,
        rows_read=rows_read,
        rows_used=len(lines),
        tokens=tokenizer.get_vocab_size(),
        seconds=time.perf_counter() - start,
    )


def tokens_tokenizer(
    sentencepiece_model: bytes, model: TokenModel, normalizer: Normalizer, *, max_length: int
) -> Tokenizer:
    """Turn a model that sentencepiece has trained into a tokenizer that gives the same ids.

    ``[MASK]`` in a text is the special token, for questions to a language model; the other special tokens
    cannot be written in a text.
    """
    processor = _sentencepiece().SentencePieceProcessor(model_proto=sentencepiece_model)
    tokens = {processor.id_to_piece(index): processor.get_score(index) for index in range(len(processor))}
    tokenizer = Tokenizer(_unigram(tokens) if model == "unigram" else _bpe(tokens))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens([AddedToken(MASK, lstrip=True, normalized=False, special=True)])
    frame(tokenizer, max_length)
    return tokenizer


def _draw(texts: Iterable[str], size: int, randomness: random.Random) -> tuple[list[str], int]:
    """Draw `size` texts, each as likely as any other, in one pass; also count them all.

    Of a long text the beginning is taken: the trainer's time and memory grow faster than a word of megabytes.
    """
    drawn: list[str] = []
    read = 0
    for whole in texts:
        text = whole[:_READ_CHARACTERS]
        read += 1
        if len(drawn) < size:
            drawn.append(text)
        elif (place := randomness.randrange(read)) < size:
            drawn[place] = text
    return drawn, read


def _try_threads() -> None:
    """Start as many threads as sentencepiece will, which ends the process where one cannot be.

    Raises:
        RuntimeError: One cannot be started.
    """
    done = threading.Event()
    threads = [threading.Thread(target=done.wait) for _ in range(_THREADS)]
    try:
        for thread in threads:
            thread.start()
    finally:
        done.set()


def _train_tokens(lines: Sequence[str], size: int, model: TokenModel) -> bytes:
    trained = io.BytesIO()
    try:
        _sentencepiece().SentencePieceTrainer.train(
            sentence_iterator=_weighted(lines),
            input_format="tsv",
            model_writer=trained,
            model_type=model,
            vocab_size=size,
            normalization_rule_name="identity",
            character_coverage=_CHARACTER_COVERAGE,
            required_chars=SPECIAL_CHARACTERS,
            # A longer text would be left out.
            max_sentence_length=max(len(line.encode()) for line in _weighted(lines)),
            pad_id=PAD_ID,
            pad_piece=PAD,
            unk_id=UNK_ID,
            unk_piece=UNK,
            control_symbols=[MASK],  # takes the first id that is free: 2
            bos_id=CLS_ID,
            bos_piece=CLS,
            eos_id=SEP_ID,
            eos_piece=SEP,
            num_threads=_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _training_error(size, error) from error
    return trained.getvalue()


def _weighted(lines: Sequence[str]) -> Iterator[str]:
    """Give texts with their counts, and the words of addresses and mentions often enough to become tokens."""
    for line in lines:
        yield f"{line.replace(_RESERVED, ' ')}\t1"
    # One word in twenty each, as in tweets: texts without any give room for them, and others hardly change.
    words = sum(line.count(" ") + 1 for line in lines)
    yield f"{URL} {USER}\t{words // 20 + 1}"
    # The unigram trainer considers only what stands in several different words.
    yield f"{URL}: {USER}: {URL}, {USER},\t1"


def _training_error(size: int, error: RuntimeError) -> ConfigError:
    """Say what sentencepiece could not do, and which size would have gone well if that was the cause."""
    message = str(error)
    if largest := re.search(r"set it to a value <= (\d+)", message):
        return ConfigError(
            f"these texts give at most {largest[1]} tokens, and {size} are asked for: "
            f"choose a size of {largest[1]} or less, or give more texts"
        )
    if smallest := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return ConfigError(
            f"{size} tokens are too few: the characters of these texts alone take {smallest[1]}: "
            "choose a larger size"
        )
    return ConfigError(
        f"sentencepiece cannot learn {size} tokens from these texts ({first_line(error)}): "
        "choose another size, or give more texts"
    )


def _unigram(scores: dict[str, float]) -> models.Unigram:
    vocabulary = [
        (token, NEVER if token in SPECIAL else round(score / _SCORE_STEP) * _SCORE_STEP)
        for token, score in scores.items()
    ]
    return models.Unigram(vocabulary, unk_id=UNK_ID, byte_fallback=False)


def _bpe(scores: dict[str, float]) -> models.BPE:
    """Write down every merge of two tokens into a third, best first; sentencepiece finds them as it goes."""
    merges = [
        (-score, cut, token)
        for token, score in scores.items()
        if token not in SPECIAL
        for cut in range(1, len(token))
        if token[:cut] in scores and token[cut:] in scores
    ]
    return models.BPE(
        vocab={token: index for index, token in enumerate(scores)},
        merges=[(token[:cut], token[cut:]) for _, cut, token in sorted(merges)],
        unk_token=UNK,
        fuse_unk=True,
    )


def _open_texts(file: str | Path, reading: Reading) -> TableReader:
    table = TableReader(file, (), optional=TEXT_COLUMNS, reading=reading)
    if not set(table.names) & set(TEXT_COLUMNS):
        raise DataError(
            f"no column is called {', '.join(TEXT_COLUMNS)}; there are {listed_names(table.names)}"
            f"{table.hint}: name those that hold text",
            file=file,
        )
    return table


def _sentencepiece() -> Any:
    return require("sentencepiece", purpose="training a vocabulary")
