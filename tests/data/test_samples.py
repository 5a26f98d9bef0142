"""Rows of pretraining: their order, frame, masks and shares."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import make_corpus
from numpy.typing import NDArray
from tokenizers import Tokenizer

from twil.config.pretraining import MaskingConfig
from twil.data.corpus.build import CorpusOptions, build_corpus
from twil.data.corpus.corpus import Corpus, Part, open_corpus
from twil.data.samples import (
    NO_ORDER,
    NOT_MASKED,
    REPLY_FIRST,
    TWEET_FIRST,
    Samples,
    Steps,
    TokenRows,
    frame_pairs,
    frame_texts,
    micro_batches,
    ranges,
)
from twil.text.tokenizer import MASK_ID, SPECIAL, encode

PAIRS = [("¿Quién viene al parque?", "yo voy, llevo la pelota"), ("hola", "buenas tardes a todos 😀")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, examples: Path, tokenizer_file: Path) -> Corpus:
    return open_corpus(make_corpus(examples, tokenizer_file, tmp_path_factory.mktemp("c") / "corpus"))


def samples_of(part: Part, *, rop: bool = True, seed: int = 1) -> Samples:
    return Samples(part, MaskingConfig(), vocab_size=600, rop=rop, seed=seed)


def true_tokens(rows: TokenRows) -> NDArray[np.int64]:
    return np.where(rows.targets != NOT_MASKED, rows.targets, rows.input_ids)


def split(rows: TokenRows) -> list[tuple[int, ...]]:
    """Give the true tokens of each row."""
    return [tuple(row) for row in np.split(true_tokens(rows), np.cumsum(rows.lengths)[:-1])]


# --- frame


def test_the_frame_is_the_tokenizers_in_both_orders(tokenizer: Tokenizer) -> None:
    tokens = [tuple(tokenizer.encode(text, add_special_tokens=False).ids for text in pair) for pair in PAIRS]
    flat = np.array([token for pair in tokens for text in pair for token in text])
    lengths = np.array([[len(text) for text in pair] for pair in tokens])
    for turned in (False, True):
        rows = frame_pairs(flat, lengths, np.full(2, turned), rop=True)
        wanted = encode(tokenizer, [pair[::-1] if turned else pair for pair in PAIRS])
        assert wanted.segment_ids is not None
        assert rows.input_ids.tolist() == functools.reduce(operator.iadd, wanted.input_ids, [])
        assert rows.segment_ids.tolist() == functools.reduce(operator.iadd, wanted.segment_ids, [])
        assert rows.order.tolist() == [REPLY_FIRST if turned else TWEET_FIRST] * 2
    assert (TWEET_FIRST, REPLY_FIRST) == (1, 0)
    texts = frame_texts(flat, lengths.flatten())
    wanted = encode(tokenizer, [text for pair in PAIRS for text in pair])
    assert texts.input_ids.tolist() == functools.reduce(operator.iadd, wanted.input_ids, [])
    assert not texts.segment_ids.any()
    assert (texts.order == NO_ORDER).all()


def test_rows_of_a_corpus_are_its_texts_as_the_tokenizer_frames_them(
    tokenizer: Tokenizer, tokenizer_file: Path, tmp_path: Path
) -> None:
    pairs = [*PAIRS, ("¡gol!", ""), ("¿y mañana?", "mañana llueve otra vez, dicen")]
    texts = ["qué frío hace hoy", "buenos días a todas"]
    (tmp_path / "pairs.tsv").write_text(
        "".join(f"{one}\t{other}\n" for one, other in [("TWEET", "REPLY"), *pairs]), encoding="utf-8"
    )
    (tmp_path / "texts.txt").write_text("\n".join([*texts, ""]), encoding="utf-8")
    files = [tmp_path / "pairs.tsv", tmp_path / "texts.txt"]
    list(build_corpus(files, tmp_path / "corpus", tokenizer_file, CorpusOptions(dev=0)))
    part = open_corpus(tmp_path / "corpus").train
    assert part.pairs is not None
    kept = [pair for pair in pairs if all(pair)]  # a pair with a blank text is none
    assert len(part.pairs) == len(kept)

    rows = samples_of(part).draw(1, 0, 100)
    segments = [tuple(row) for row in np.split(rows.segment_ids, np.cumsum(rows.lengths)[:-1])]
    wanted: Counter[tuple[Any, ...]] = Counter()
    for label, ordered in ((TWEET_FIRST, kept), (REPLY_FIRST, [pair[::-1] for pair in kept])):
        encoded = encode(tokenizer, ordered)
        assert encoded.segment_ids is not None
        wanted.update(
            (tuple(ids), tuple(parts), label)
            for ids, parts in zip(encoded.input_ids, encoded.segment_ids, strict=True)
        )
    wanted.update((tuple(ids), (0,) * len(ids), NO_ORDER) for ids in encode(tokenizer, texts).input_ids)
    assert Counter(zip(split(rows), segments, rows.order.tolist(), strict=True)) == wanted


def test_ranges_are_concatenated() -> None:
    assert ranges(np.array([5, 0, 9]), np.array([3, 0, 2])).tolist() == [5, 6, 7, 9, 10]


# --- epochs and steps


@pytest.mark.parametrize("rop", [True, False])
def test_an_epoch_holds_each_pair_in_its_orders_and_each_text_once(corpus: Corpus, rop: bool) -> None:
    samples = samples_of(corpus.train, rop=rop)
    rows = samples.draw(1, 0, len(samples))
    assert corpus.train.pairs is not None
    assert corpus.train.texts is not None
    tokens, lengths = corpus.train.pairs.tokens(np.arange(len(corpus.train.pairs)))
    wanted = Counter(split(frame_pairs(tokens, lengths, np.zeros(len(lengths), bool), rop=rop)))
    if rop:
        wanted += Counter(split(frame_pairs(tokens, lengths, np.ones(len(lengths), bool), rop=rop)))
    tokens, lengths = corpus.train.texts.tokens(np.arange(len(corpus.train.texts)))
    wanted += Counter(split(frame_texts(tokens, lengths[:, 0])))
    assert Counter(split(rows)) == wanted
    orders = Counter(rows.order.tolist())
    pairs = len(corpus.train.pairs)
    assert orders == ({1: pairs, 0: pairs, NO_ORDER: len(lengths)} if rop else {NO_ORDER: len(rows)})


@pytest.mark.parametrize("kind", ["pairs", "texts"])
def test_a_part_may_hold_one_kind_alone(corpus: Corpus, kind: str) -> None:
    store = getattr(corpus.train, kind)
    part = Part(store, None) if kind == "pairs" else Part(None, store)
    samples = samples_of(part)
    rows = samples.draw(1, 0, len(samples))
    assert len(rows) == len(samples) == len(store) * (2 if kind == "pairs" else 1)
    assert rows.ordered == (len(rows) if kind == "pairs" else 0)


def test_masks_are_true_and_never_on_special_tokens(corpus: Corpus) -> None:
    samples = samples_of(corpus.train)
    rows = samples.draw(1, 0, len(samples))
    masked = rows.targets != NOT_MASKED
    assert rows.masked == masked.sum() > 500
    assert (rows.targets[masked] >= len(SPECIAL)).all()
    assert (rows.input_ids[~masked] != MASK_ID).all()
    assert 0.7 < (rows.input_ids[masked] == MASK_ID).mean() < 0.9


def test_rows_are_those_of_seed_epoch_and_step_alone(corpus: Corpus) -> None:
    def drawn(seed: int, epoch: int, start: int) -> list[int]:
        rows = samples_of(corpus.train, seed=seed).draw(epoch, start, start + 20)
        return [*rows.input_ids.tolist(), *rows.targets.tolist()]

    assert drawn(1, 1, 20) == drawn(1, 1, 20)
    assert len({tuple(drawn(*which)) for which in ((1, 1, 20), (2, 1, 20), (1, 2, 20), (1, 1, 40))}) == 4
    rows = samples_of(corpus.train).draw(1, 0, 50)
    assert rows.lengths.tolist() == sorted(rows.lengths.tolist(), reverse=True)


def test_a_row_seen_again_has_other_masks(corpus: Corpus) -> None:
    samples = samples_of(corpus.train)
    first, second = (dict(_masks(samples, epoch)) for epoch in (1, 2))
    assert first.keys() == second.keys()
    assert sum(first[row] != second[row] for row in first) > 0.9 * len(first)


def test_masks_of_a_row_at_the_same_place_differ_by_epoch_and_seed(
    tokenizer_file: Path, tmp_path: Path
) -> None:
    text = "ayer fuimos al mercado del barrio y compramos naranjas, pan, queso y unas flores para la abuela"
    (tmp_path / "one.txt").write_text(text + "\n", encoding="utf-8")
    list(build_corpus([tmp_path / "one.txt"], tmp_path / "corpus", tokenizer_file, CorpusOptions(dev=0)))
    part = open_corpus(tmp_path / "corpus").train

    def masked(seed: int, epoch: int) -> tuple[int, ...]:
        rows = samples_of(part, seed=seed).draw(epoch, 0, 1)
        return tuple(np.flatnonzero(rows.targets != NOT_MASKED))

    assert len({masked(1, epoch) for epoch in range(1, 9)}) > 4
    assert len({masked(seed, 1) for seed in range(1, 9)}) > 4


def _masks(samples: Samples, epoch: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    rows = samples.draw(epoch, 0, len(samples))
    targets = np.split(rows.targets, np.cumsum(rows.lengths)[:-1])
    return list(zip(split(rows), map(tuple, targets), strict=True))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_shares_of_all_processes_are_the_step_with_the_same_masks(corpus: Corpus, world_size: int) -> None:
    samples = samples_of(corpus.train)

    def step_of(rank: int, world_size: int, number: int) -> list[TokenRows]:
        steps = Steps(samples, 1, batch_rows=50, batch_tokens=400, rank=rank, world_size=world_size)
        assert len(steps) == -(-len(samples) // 50)
        return steps[number]

    def rows_of(batches: list[TokenRows]) -> Counter[tuple[tuple[int, ...], ...]]:
        found: Counter[tuple[tuple[int, ...], ...]] = Counter()
        for batch in batches:
            cuts = np.cumsum(batch.lengths)[:-1]
            fields = (batch.input_ids, batch.segment_ids, batch.targets)
            parts = [np.split(field, cuts) for field in fields]
            rows = zip(*parts, batch.order, strict=True)
            found.update(
                (tuple(ids), tuple(segments), tuple(targets), (int(order),))
                for ids, segments, targets, order in rows
            )
        return found

    for number in (0, len(samples) // 50):
        whole = rows_of(step_of(0, 1, number))
        shares = [step_of(rank, world_size, number) for rank in range(world_size)]
        together: Counter[tuple[tuple[int, ...], ...]] = Counter()
        for share in shares:
            together += rows_of(share)
        assert together == whole
        sizes = [sum(map(len, share)) for share in shares]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("world_size", [1, 3])
def test_micro_batches_stay_within_the_budget(corpus: Corpus, world_size: int) -> None:
    rows = samples_of(corpus.train).draw(1, 0, 60)
    batches = [
        batch
        for rank in range(world_size)
        for batch in micro_batches(rows, 300, rank=rank, world_size=world_size)
    ]
    assert sum(map(len, batches)) == 60
    assert all(len(batch) * batch.lengths.max() <= 300 or len(batch) == 1 for batch in batches)
    assert len(batches) < 60


def test_steps_outside_an_epoch_are_refused(corpus: Corpus) -> None:
    steps = Steps(samples_of(corpus.train), 1, batch_rows=50, batch_tokens=400)
    with pytest.raises(IndexError):
        steps[len(steps)]
