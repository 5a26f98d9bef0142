"""The rows that an exported graph is tried on: everyday texts and random tokens, at shapes of all sizes."""

# B batch   T tokens

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from twil.bundle.bundle import Bundle
from twil.data.batching import Batch, pad_batch
from twil.text.tokenizer import encode, load_tokenizer

SEED = 20
"""Of the random rows: the same report for the same model."""

TEXTS = (
    "Por fin viernes!! 🎉🎉 esta noche toca cena con los de siempre",
    "@la_vecina_del_cuarto no me lo puedo creer, otra vez han cancelado el tren de las 8 😡 #puntualidad",
    "Qué maravilla de concierto anoche en Málaga ❤️ https://ejemplo.es/fotos/1234",
    "",
    "jajajajaja",
    "¿Alguien sabe a qué hora empieza el partido? Que yo salgo del curro a las 7…",
    "👩‍👩‍👧‍👦🇪🇸🙈🙈🙈",
    "Ni fu ni fa la peli, la verdad. Me esperaba bastante más después de tanto anuncio :/",
    "RT @el_tablon_del_barrio: Corte de agua mañana en el centro de 9 a 14 h &gt;&gt; avisad a los vecinos",
    "GRACIAS a tod@s por los mensajes!!! Sois l@s mejores, os quiero muchísimooooo 😘😘😘",
    "3-0 y al descanso. Mejor apago la tele y me pongo con la cena, que esto no tiene arreglo",
)
_LONG_TEXT = (
    "Abro hilo: llevo tres horas esperando en el médico y os voy a contar todo lo que he visto. " * 100
)


def probe_batches(bundle: Bundle, random: np.random.Generator, *, vocab_size: int) -> Iterator[Batch]:
    """Give texts and random rows, at shapes unlike the one that was traced."""
    manifest = bundle.manifest
    tokenizer = load_tokenizer(bundle.tokenizer)
    pair = manifest.task is not None and manifest.task.pair
    yield _text_batch(tokenizer, TEXTS, pair=pair, pad_id=manifest.pad_id)
    yield _text_batch(tokenizer, ("",), pair=pair, pad_id=manifest.pad_id)
    yield _text_batch(tokenizer, (_LONG_TEXT, TEXTS[0]), pair=pair, pad_id=manifest.pad_id)
    longest = manifest.max_length
    for rows, length in ((1, 1), (1, longest), (2, longest), (3, 7), (8, 2), (32, 16)):
        yield _random_batch(random, rows, min(length, longest), vocab_size, manifest.pad_id)


def _text_batch(tokenizer: Tokenizer, texts: Sequence[str], *, pair: bool, pad_id: int) -> Batch:
    encoded = encode(tokenizer, list(zip(texts, reversed(texts), strict=True)) if pair else texts)
    return pad_batch(encoded.input_ids, encoded.segment_ids, pad_id=pad_id)


def _random_batch(random: np.random.Generator, rows: int, length: int, vocab_size: int, pad_id: int) -> Batch:
    """Draw rows of any tokens, the first of full length, with the second segment from anywhere on."""
    lengths = [length, *random.integers(1, length, rows - 1, endpoint=True).tolist()]
    ids = [random.integers(0, vocab_size, size).tolist() for size in lengths]
    segments = [(np.arange(size) >= random.integers(1, size, endpoint=True)).tolist() for size in lengths]
    return pad_batch(ids, segments, pad_id=pad_id)


def shape_of(batch: Batch) -> tuple[int, int]:
    """Return batch and length."""
    rows, length = batch.input_ids.shape
    return rows, length
