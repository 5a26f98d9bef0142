from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import typer
from conftest import CHANGES, change
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from typer.testing import CliRunner

from twil.cli import corpus as corpus_command
from twil.cli.main import guard
from twil.core.errors import ConfigError, DataError, ModelError, TwilError
from twil.core.hashing import hash_texts
from twil.data.corpus import build as corpus_building
from twil.data.corpus import grouping
from twil.data.corpus.build import CorpusOptions, Event, Summary, build_corpus
from twil.data.corpus.cleaning import find_fault, fold
from twil.data.corpus.corpus import Corpus, open_corpus
from twil.data.corpus.disk_array import DiskArray
from twil.data.corpus.grouping import hold_out, mark_repeats
from twil.data.corpus.row_spool import encoded_rows
from twil.data.corpus.token_store import TokenStore, TokenWriter, token_type
from twil.text.tokenizer import OWN_SPECIAL, SEP, original_tokenizer, save_tokenizer

Pair = tuple[str, str, str, str]
PAIRS: list[Pair] = [
    ("10", "¿Alguien sabe a qué hora abre la biblioteca?", "11", "@lucia Los sábados abre a las nueve"),
    ("10", "¿Alguien sabe a qué hora abre la biblioteca?", "12", "@lucia Creo que hoy está cerrada 😕"),
    ("20", "Menudo atasco en la M-30 esta mañana", "21", "Y mañana será peor, que vuelve el cole"),
    ("21", "Y mañana será peor, que vuelve el cole", "22", "Yo me voy en bici, ya lo tengo decidido"),
    ("30", "Qué rica la tortilla de mi abuela", "31", "¿Con cebolla o sin cebolla? Piénsalo bien"),
]
NO_DEV = CorpusOptions(dev=0)
Build = Callable[..., Corpus]


def write_pairs(path: Path, pairs: Sequence[Pair]) -> Path:
    return write_lines(path, "ORIG_ID\tORIG_TEXT\tREPLY_ID\tREPLY_TEXT", *("\t".join(pair) for pair in pairs))


def write_texts(path: Path, texts: Sequence[tuple[str, str]]) -> Path:
    return write_lines(path, "ID\tTEXT", *(f"{name}\t{text}" for name, text in texts))


def write_lines(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def build(tmp_path: Path, tokenizer_file: Path) -> Build:
    def run(files: Sequence[Path], options: CorpusOptions = NO_DEV, **more: object) -> Corpus:
        target = tmp_path / "corpus"
        list(build_corpus(files, target, tokenizer_file, options, overwrite=True, **more))  # type: ignore[arg-type]
        return open_corpus(target)

    return run


def rows_of(store: TokenStore | None) -> list[tuple[tuple[int, ...], ...]]:
    """Read a store row by row."""
    if store is None:
        return []
    rows = []
    for row in range(len(store)):
        flat, lengths = store.tokens(np.array([row]))
        ends = np.cumsum(lengths[0])
        rows.append(tuple(tuple(part.tolist()) for part in np.split(flat, ends[:-1])))
    return rows


def tokens_of(tokenizer: Tokenizer, *texts: str) -> tuple[tuple[int, ...], ...]:
    """Encode one row with its special tokens, and take these off by their segment."""
    (encoding,) = tokenizer.encode_batch([texts[0] if len(texts) == 1 else texts])
    parts = []
    for segment in range(len(texts)):
        ids = [id_ for id_, of in zip(encoding.ids, encoding.type_ids, strict=True) if of == segment]
        parts.append(tuple(ids[1 - segment : -1]))
    return tuple(parts)


def sides(corpus: Corpus, kind: str = "pairs") -> tuple[list[object], list[object]]:
    dev = rows_of(getattr(corpus.dev, kind)) if corpus.dev else []
    return list(rows_of(getattr(corpus.train, kind))), list(dev)


# --- what is stored


def test_rows_keep_their_order_and_the_tokenizers_ids(
    build: Build, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    texts = [("a", "Nos vemos el jueves en la plaza"), ("b", "El pan de ayer está duro ya")]
    files = [write_texts(tmp_path / "t.tsv", texts), write_pairs(tmp_path / "p.tsv", PAIRS)]
    corpus = build(files)
    assert rows_of(corpus.train.pairs) == [tokens_of(tokenizer, pair[1], pair[3]) for pair in PAIRS]
    assert rows_of(corpus.train.texts) == [tokens_of(tokenizer, text) for _, text in texts]
    assert corpus.dev is None
    assert corpus.tokenizer.to_str() == tokenizer.to_str()


def test_long_rows_are_cut_as_the_tokenizer_cuts_them_and_counted(
    build: Build, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    corpus = build([write_pairs(tmp_path / "p.tsv", PAIRS)], CorpusOptions(dev=0, max_length=16))
    tokenizer.enable_truncation(16, strategy="longest_first")
    assert rows_of(corpus.train.pairs) == [tokens_of(tokenizer, pair[1], pair[3]) for pair in PAIRS]
    assert corpus.max_length == 16
    counts = corpus.info["parts"]["train"]["pairs"]
    tokenizer.no_truncation()
    long = [len(tokenizer.encode(pair[1], pair[3]).ids) > 16 for pair in PAIRS]
    assert counts["truncated"] == sum(long) > 0
    assert counts["tokens"] == sum(len(part) for row in rows_of(corpus.train.pairs) for part in row)


def test_a_separator_that_a_text_holds_does_not_move_the_border(tokenizer: Tokenizer) -> None:
    tokenizer.add_special_tokens([AddedToken(SEP, special=True, normalized=False)])
    pairs = [("hola [SEP] qué tal estás", "muy bien [SEP]"), ("y tú qué haces", "nada")]
    encodings = tokenizer.encode_batch_fast(pairs)
    whole = np.zeros(len(pairs), np.bool_)
    rows = encoded_rows(encodings, whole, np.uint16, OWN_SPECIAL, pairs=True, held_out=False)
    expected = [tokens_of(tokenizer, *pair) for pair in pairs]
    assert rows.lengths.tolist() == [[len(part) for part in row] for row in expected]
    assert rows.tokens.tolist() == [id_ for row in expected for part in row for id_ in part]


@settings(max_examples=30, deadline=None)
@given(
    batches=st.lists(st.lists(st.lists(st.integers(0, 7), min_size=2, max_size=2), max_size=5), max_size=4),
    asked=st.lists(st.integers(0, 10**6), max_size=12),
    tokens_type=st.sampled_from([np.uint16, np.int32]),
)
def test_any_rows_are_read_in_the_order_asked(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[list[int]]],
    asked: list[int],
    tokens_type: type,
) -> None:
    path = tmp_path_factory.mktemp("store") / "pairs.arrow"
    top = np.iinfo(tokens_type).max
    with TokenWriter(path, 2, tokens_type) as writer:
        count = 0
        for batch in batches:
            lengths = np.array(batch, dtype=np.int64).reshape(-1, 2)
            writer.write(top - np.arange(count, count + lengths.sum()).astype(tokens_type), lengths)
            count += int(lengths.sum())
    all_lengths = [row for batch in batches for row in batch]
    if not all_lengths:
        assert not path.exists()
        return
    store = TokenStore(path)
    assert len(store) == len(all_lengths)
    rows = np.array(asked, dtype=np.int64) % len(store)
    begins = np.cumsum([0, *map(sum, all_lengths)])
    expected = [top - place for row in rows for place in range(begins[row], begins[row + 1])]
    flat, lengths = store.tokens(rows)
    assert flat.dtype == lengths.dtype == np.dtype(np.int64)
    assert flat.tolist() == expected
    assert lengths.shape == (len(rows), 2)
    assert lengths.tolist() == store.lengths(rows).tolist() == [all_lengths[row] for row in rows]


def test_a_row_that_is_not_there_is_an_error(build: Build, tmp_path: Path) -> None:
    store = build([write_pairs(tmp_path / "p.tsv", PAIRS)]).train.pairs
    assert store is not None
    for row in (-1, len(store)):
        with pytest.raises(IndexError):
            store.tokens(np.array([0, row]))


def test_vocabularies_too_large_for_two_bytes_take_four() -> None:
    assert token_type(65_536) is np.uint16
    assert token_type(65_537) is np.int32


# --- cleaning


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        (("Qué frío hace hoy", ""), "empty"),
        (("Qué frío hace hoy", " \t\u200b&nbsp;"), "empty"),
        (("@ana @luis https://t.co/abc", "HTTPS://T.CO/X www.upv.es @juan"), "only_url_user"),
        (("@ana https://t.co/abc",), "only_url_user"),
        (("@ana https://t.co/abc", "Qué frío hace hoy"), None),
        (("@ana https://t.co/abc :)", "@luis @ana @eva jaja"), None),
        (("Buenos días", "Hola"), "short"),
        (("Buenos días ", "Hola a todos"), None),
        (("Buenos días a todos", "Hola"), None),
        (("jajaja 😂",), "short"),
        (("😂 😂 😂",), None),
        (("tod@s a casa ya",), None),
    ],
)
def test_faults_of_rows(texts: tuple[str, ...], fault: str | None) -> None:
    assert find_fault(*texts) == fault


def test_near_exact_duplicates_fold_to_the_same() -> None:
    folded = fold("¡Qué frío hace HOY, @ana! https://t.co/abc")
    assert folded == fold("qué frío\u00a0hace hoy… @luis_2 https://t.co/xyz (pic.twitter.com/1)")
    assert folded != fold("qué frio hace hoy")
    assert fold("vale 😂") != fold("vale 😡")


def test_every_rule_counts_what_it_leaves_out(build: Build, tmp_path: Path, tokenizer: Tokenizer) -> None:
    kept = PAIRS[0]
    rows: list[Pair] = [
        kept,
        ("10", kept[1], "14", ""),
        ("10", "@lucia https://t.co/abc", "15", "@ana"),
        ("10", "Buenos días", "16", "Hola"),
        ("10", "otra versión del mismo texto aquí", "11", "con una respuesta que nadie ha visto antes"),
        ("90", kept[1].upper(), "91", "@otra " + kept[3] + "!!"),
    ]
    path = write_pairs(tmp_path / "p.tsv", rows)
    with path.open("a", encoding="utf-8") as file:
        file.write("una celda suelta\n")
    corpus = build([path], CorpusOptions(dev=0, on_error="skip", drop_duplicates=True))
    assert corpus.info["rules"] == {
        "pairs": {"read": 7, "bad": 1, "empty": 1, "only_url_user": 1, "short": 1}
        | {"repeated": 1, "duplicate": 1, "kept": 1}
    }
    assert rows_of(corpus.train.pairs) == [tokens_of(tokenizer, kept[1], kept[3])]
    again = build([path], CorpusOptions(dev=0, on_error="skip"))
    assert again.info["rules"]["pairs"]["duplicate"] == 0
    assert again.info["rules"]["pairs"]["kept"] == 2


def test_a_duplicate_of_a_row_that_was_left_out_is_kept(build: Build, tmp_path: Path) -> None:
    other = "una respuesta del todo distinta a la de antes"
    rows: list[Pair] = [PAIRS[0], ("10", "otro texto con otras palabras", "11", other)]
    rows.append(("50", "otro texto con otras palabras", "51", other))
    corpus = build([write_pairs(tmp_path / "p.tsv", rows)], CorpusOptions(dev=0, drop_duplicates=True))
    counts = corpus.info["rules"]["pairs"]
    assert (counts["repeated"], counts["duplicate"], counts["kept"]) == (1, 0, 2)


def test_a_single_text_is_repeated_only_where_id_and_text_are(build: Build, tmp_path: Path) -> None:
    one = write_texts(tmp_path / "a.tsv", [("1", "Hoy toca lentejas"), ("1", "Hoy toca lentejas")])
    two = write_texts(tmp_path / "b.tsv", [("1", "Mañana toca pescado"), ("2", "Hoy toca lentejas")])
    corpus = build([one, two])
    assert corpus.info["rules"]["texts"]["repeated"] == 1
    assert corpus.info["rules"]["texts"]["kept"] == 3


def test_texts_in_which_the_tokenizer_finds_nothing_are_empty(build: Build, tmp_path: Path) -> None:
    vocabulary = write_lines(tmp_path / "vocab.txt", "[PAD]", "[UNK]", "[MASK]", "[CLS]", "[SEP]", "hola")
    save_tokenizer(original_tokenizer(vocabulary, max_length=16), tmp_path / "original.json")
    path = write_lines(tmp_path / "t.txt", "… … … RT", "hola hola hola")
    list(build_corpus([path], tmp_path / "c", tmp_path / "original.json", NO_DEV))
    corpus = open_corpus(tmp_path / "c")
    assert corpus.info["rules"]["texts"]["empty"] == 1
    assert rows_of(corpus.train.texts) == [((5, 5, 5),)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=200), st.sets(st.integers(0, 199)))
def test_repeats_are_those_that_a_set_of_all_keys_finds(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], marked: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("repeats")
    hashed = hash_texts(map(str, values))
    keys = np.where(np.array(values) == 0, np.uint64(0), hashed)
    marks = np.array([9 if row in marked else 0 for row in range(len(values))], dtype=np.uint8)
    expected, seen = marks.copy(), set()
    for row, value in enumerate(values):
        if not expected[row] and value:
            if value in seen:
                expected[row] = 1
            seen.add(value)
    with small_runs(), DiskArray(folder / "keys", np.uint64) as array:
        array.append(keys)
        mark_repeats(array, marks, 1, folder)
    assert marks.tolist() == expected.tolist()


def test_rows_without_a_key_are_never_in_memory_together(tmp_path: Path) -> None:
    keys = np.concatenate([np.zeros(10_000, np.uint64), hash_texts(map(str, range(100)))])
    with small_runs(), DiskArray(tmp_path / "keys", np.uint64) as array:
        array.append(keys)
        parts = list(grouping._partitions(array, tmp_path, drop_zeros=True))
    assert max(map(len, parts)) < 100
    assert sorted(place for part in parts for place in part["place"].tolist()) == list(range(10_000, 10_100))


# --- what is held out


@contextmanager
def small_runs() -> Iterator[None]:
    """Deal with a few rows at a time, so that little data goes all the ways of much."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "PARTITION_KEYS", 16)
        patch.setattr(grouping, "RUN_ROWS", 7)
        yield


def conversations(links: list[tuple[int, int]]) -> list[int]:
    """Name the conversation of each row by brute force."""
    names = {id_: id_ for link in links for id_ in link}
    for _ in names:
        for first, second in links:
            names[first] = names[second] = min(names[first], names[second])
    return [names[first] for first, _ in links]


@settings(max_examples=60, deadline=None)
@given(
    links=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=2, max_size=80),
    chain=st.integers(0, 40),
    share=st.sampled_from([0.01, 0.3, 0.7]),
    seed=st.integers(0, 3),
)
def test_a_conversation_is_held_out_whole_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory,
    links: list[tuple[int, int]],
    chain: int,
    share: float,
    seed: int,
) -> None:
    links = [*links, *((1000 + link, 1001 + link) for link in range(chain)), (5000, 5000), (6000, 6001)]
    folder = tmp_path_factory.mktemp("links")
    names = conversations(links)
    sizes = Counter(names)
    held_out = np.zeros(len(links), np.bool_)
    with small_runs(), DiskArray(folder / "ids", np.uint64, 2) as array:
        array.append(hash_texts(str(id_) for link in links for id_ in link).reshape(-1, 2))
        drawn = hold_out(
            array, np.zeros(len(links), np.uint8), held_out, share=share, seed=seed, folder=folder
        )
    held = {name for name, out in zip(names, held_out, strict=True) if out}
    kept = {name for name, out in zip(names, held_out, strict=True) if not out}
    assert held
    assert kept
    assert not held & kept
    assert (drawn.conversations, drawn.held_out) == (len(sizes), len(held))
    assert drawn.largest == max(sizes.values())
    assert max(sizes[name] for name in held) <= max(1, share * len(links), min(sizes.values()))


def test_the_share_held_out_is_near_the_one_asked_for(tmp_path: Path) -> None:
    rows = 20_000
    held_out = np.zeros(rows, np.bool_)
    with DiskArray(tmp_path / "ids", np.uint64, 2) as array:
        array.append(hash_texts(str(row // 2 * 2 + side) for row in range(rows) for side in (0, 1)))
        hold_out(array, np.zeros(rows, np.uint8), held_out, share=0.1, seed=1, folder=tmp_path)
    assert abs(held_out.mean() - 0.1) < 0.012  # four standard deviations of 10,000 conversations


def test_replies_of_replies_stay_with_the_tweet(build: Build, tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = write_pairs(tmp_path / "p.tsv", PAIRS)
    found = set()
    for seed in range(12):
        train, dev = sides(build([path], CorpusOptions(dev=0.5, seed=seed)))
        rows = [tokens_of(tokenizer, pair[1], pair[3]) for pair in PAIRS]
        assert [row for row in rows if row in train] == train
        assert [row for row in rows if row in dev] == dev
        assert (rows[0] in dev) == (rows[1] in dev)
        assert (rows[2] in dev) == (rows[3] in dev)
        found.add(tuple(row in dev for row in rows))
    assert len(found) > 1  # the seed decides


def test_the_tweet_of_a_pair_is_held_out_with_it_where_it_is_a_single_text(
    build: Build, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    pairs = write_pairs(tmp_path / "p.tsv", PAIRS)
    texts = write_texts(tmp_path / "t.tsv", [(pair[0], pair[1]) for pair in PAIRS])
    for seed in range(6):
        corpus = build([pairs, texts], CorpusOptions(dev=0.5, seed=seed))
        _, dev_pairs = sides(corpus)
        _, dev_texts = sides(corpus, "texts")
        for pair in PAIRS:
            row = tokens_of(tokenizer, pair[1], pair[3])
            assert (row in dev_pairs) == (tokens_of(tokenizer, pair[1]) in dev_texts)


def test_equal_texts_without_ids_stay_together(build: Build, tmp_path: Path, tokenizer: Tokenizer) -> None:
    texts = [f"Línea {number % 10} del autobús a la estación" for number in range(40)]
    for seed in range(4):
        corpus = build([write_lines(tmp_path / "t.txt", *texts)], CorpusOptions(dev=0.3, seed=seed))
        train, dev = sides(corpus, "texts")
        assert train
        assert dev
        assert not set(train) & set(dev)
        assert len(train) + len(dev) == 40


def test_more_conversations_do_not_change_the_side_of_others(tmp_path: Path) -> None:
    few, many = 400, 4000
    sides_of = []
    for rows in (few, many):
        held_out = np.zeros(rows, np.bool_)
        folder = tmp_path / str(rows)
        folder.mkdir()
        with DiskArray(folder / "ids", np.uint64, 2) as array:
            array.append(hash_texts(str(row) for row in range(rows) for _ in (0, 1)))
            hold_out(array, np.zeros(rows, np.uint8), held_out, share=0.1, seed=3, folder=folder)
        sides_of.append(held_out)
    assert sides_of[0].any()
    assert sides_of[0].tolist() == sides_of[1][:few].tolist()


def test_rows_that_are_one_conversation_cannot_be_shared_out(build: Build, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"link all 2 rows to one conversation.*--dev 0"):
        build([write_pairs(tmp_path / "p.tsv", PAIRS[:2])], CorpusOptions(dev=0.1))
    assert len(rows_of(build([tmp_path / "p.tsv"]).train.pairs)) == 2


def test_given_files_are_held_out_and_not_learned_from(
    build: Build, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    train_file = write_pairs(tmp_path / "train.tsv", PAIRS)
    dev_file = write_pairs(tmp_path / "dev.tsv", [PAIRS[4], PAIRS[1]])
    train, dev = sides(build([train_file], CorpusOptions(), dev_files=[dev_file]))
    rows = [tokens_of(tokenizer, pair[1], pair[3]) for pair in PAIRS]
    assert train == [rows[0], rows[2], rows[3]]
    assert dev == [rows[4], rows[1]]


# --- the folder as a whole


def test_the_same_input_gives_the_same_bytes(build: Build, tmp_path: Path) -> None:
    files = [
        write_pairs(tmp_path / "p.tsv", PAIRS),
        write_texts(tmp_path / "t.tsv", [(pair[0], pair[1]) for pair in PAIRS]),
    ]
    digests = []
    for _ in range(2):
        folder = build(files, CorpusOptions(dev=0.4)).path
        digests.append({file.name: hashlib.sha256(file.read_bytes()).digest() for file in folder.iterdir()})
    assert digests[0] == digests[1]
    assert len(digests[0]) == 6


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_nothing_is_left_behind_where_the_work_ends_early(tmp_path: Path, tokenizer_file: Path) -> None:
    bad = write_pairs(tmp_path / "p.tsv", [*PAIRS, ("solo", "tres", "celdas")])  # type: ignore[list-item]
    with pytest.raises(DataError, match=r"p\.tsv, line 7: 3 fields, expected 4"):
        list(build_corpus([bad], tmp_path / "corpus", tokenizer_file))
    good = write_pairs(tmp_path / "q.tsv", PAIRS)
    events: Iterator[Event] = build_corpus([good], tmp_path / "corpus", tokenizer_file)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert names_in(tmp_path) == {"p.tsv", "q.tsv"}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("place", [0, 1])
def test_a_file_that_changes_before_it_is_read_to_its_end_leaves_no_corpus(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch, how: str, place: int
) -> None:
    files = [write_pairs(tmp_path / "0.tsv", PAIRS), write_texts(tmp_path / "1.tsv", [("1", "vaya tarde")])]
    changed = []

    def changing(*texts: str) -> str | None:
        if not changed:
            changed.append(change(files[place], how))
        return find_fault(*texts)

    monkeypatch.setattr(corpus_building, "find_fault", changing)
    with pytest.raises(DataError, match=rf"{place}\.tsv: changed while it was read"):
        list(build_corpus(files, tmp_path / "corpus", tokenizer_file, NO_DEV))
    assert names_in(tmp_path) == {"0.tsv", "1.tsv"}


def test_only_a_corpus_is_replaced_and_only_when_told(tmp_path: Path, tokenizer_file: Path) -> None:
    path, target = write_pairs(tmp_path / "p.tsv", PAIRS), tmp_path / "corpus"
    list(build_corpus([path], target, tokenizer_file, NO_DEV))
    with pytest.raises(TwilError, match="--force"):
        list(build_corpus([path], target, tokenizer_file, NO_DEV))
    list(build_corpus([path], target, tokenizer_file, NO_DEV, overwrite=True))
    (target / "notas.txt").write_text("mías")
    with pytest.raises(TwilError, match=r"notas\.txt"):
        list(build_corpus([path], target, tokenizer_file, NO_DEV, overwrite=True))


def test_the_last_event_tells_what_the_manifest_says(tmp_path: Path, tokenizer_file: Path) -> None:
    path = write_pairs(tmp_path / "p.tsv", [*PAIRS, PAIRS[0]])
    *_, summary = build_corpus([path], tmp_path / "corpus", tokenizer_file, NO_DEV)
    assert isinstance(summary, Summary)
    corpus = open_corpus(tmp_path / "corpus")
    assert summary.info == corpus.info
    assert summary.rows == 6
    assert corpus.sha256 == hashlib.sha256((tmp_path / "corpus" / "corpus.json").read_bytes()).hexdigest()
    assert corpus.info["files"] == [{"name": "p.tsv", "part": "train", "kind": "pairs", "rows": 6, "bad": 0}]


def test_corpora_of_the_same_sizes_are_told_apart(tmp_path: Path, tokenizer_file: Path) -> None:
    files = []
    for folder, rows in (("one", PAIRS), ("two", PAIRS[::-1])):
        (tmp_path / folder).mkdir()
        path = write_pairs(tmp_path / folder / "p.tsv", rows)
        list(build_corpus([path], tmp_path / folder / "corpus", tokenizer_file, NO_DEV))
        files.append(open_corpus(tmp_path / folder / "corpus"))
    sizes = [{**corpus.info["parts"]["train"]["pairs"], "sha256": ""} for corpus in files]
    assert sizes[0] == sizes[1]
    assert files[0].sha256 != files[1].sha256


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["ORIG_TEXT\tREPLY_TEXT"], "no row is left to learn from: 0 were read"),
        (
            ["ORIG_TEXT\tREPLY_TEXT", "Hola\tAdiós", "Sí\tNo"],
            r"2 were read \(no text of more than two words: 2",
        ),
        (["ORIG_TEXT\tREPLY_TEXT", "Hola\t"], r"a text is empty: 1"),
    ],
)
def test_a_corpus_of_nothing_is_refused(build: Build, tmp_path: Path, lines: list[str], said: str) -> None:
    for options in (NO_DEV, CorpusOptions()):
        with pytest.raises(DataError, match=said):
            build([write_lines(tmp_path / "p.tsv", *lines)], options)
    assert names_in(tmp_path) == {"p.tsv"}


def test_a_file_given_twice_is_refused_whatever_its_name(build: Build, tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "p.tsv", PAIRS)
    (tmp_path / "link.tsv").symlink_to(path)
    with pytest.raises(DataError, match=r"link\.tsv: is given twice \(also as .*p\.tsv\)"):
        build([path, tmp_path / "link.tsv"])
    with pytest.raises(DataError, match="given twice"):
        build([path], CorpusOptions(), dev_files=[path])


def test_options_that_do_not_go_together_are_refused(build: Build, tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "p.tsv", PAIRS)
    with pytest.raises(ConfigError, match=r"--dev.*--dev-files"):
        build([path], CorpusOptions(dev=0.1), dev_files=[path])
    for options, files in ((CorpusOptions(seed=0), [path]), (CorpusOptions(dev=0, seed=3), [])):
        with pytest.raises(ConfigError, match=r"^--seed would have no effect: .*\(--dev\)$"):
            build([path], options, dev_files=files)
    for share in (-0.1, 1.0):
        with pytest.raises(ConfigError, match="cannot be held out"):
            CorpusOptions(dev=share)
    with pytest.raises(ConfigError, match="no row has 99999999999999999999 tokens"):
        CorpusOptions(max_length=99_999_999_999_999_999_999)


def test_a_tokenizer_must_say_or_be_told_the_longest_row(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = write_pairs(tmp_path / "p.tsv", PAIRS)
    tokenizer.no_truncation()
    tokenizer.save(str(tmp_path / "endless.json"))
    with pytest.raises(ConfigError, match="--max-length"):
        list(build_corpus([path], tmp_path / "c", tmp_path / "endless.json", NO_DEV))
    list(build_corpus([path], tmp_path / "c", tmp_path / "endless.json", CorpusOptions(dev=0, max_length=40)))
    assert open_corpus(tmp_path / "c").max_length == 40


def test_what_is_no_corpus_or_damaged_is_refused(build: Build, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no corpus"):
        open_corpus(tmp_path)
    folder = build([write_pairs(tmp_path / "p.tsv", PAIRS)]).path
    manifest = (folder / "corpus.json").read_text()
    arrow = (folder / "train-pairs.arrow").read_bytes()

    (folder / "train-pairs.arrow").write_bytes(arrow[:-100])
    with pytest.raises(DataError, match=r"train-pairs\.arrow.*damaged"):
        open_corpus(folder)
    for place in (0, len(arrow) // 2, len(arrow) - 1):
        (folder / "train-pairs.arrow").write_bytes(arrow[:place] + b"\xff" + arrow[place + 1 :])
        with pytest.raises(DataError, match=r"train-pairs\.arrow: the corpus is damaged.*SHA-256"):
            open_corpus(folder)
    (folder / "train-pairs.arrow").unlink()
    with pytest.raises(DataError, match="it is missing"):
        open_corpus(folder)
    (folder / "train-pairs.arrow").write_bytes(arrow)
    train: list[object] = [3, {"pairs": 3}, {"pairs": {"rows": 5}}, {"pairs": {"rows": "5", "bytes": 9}}]
    train.append({"pairs": {"rows": 5, "bytes": len(arrow)}})
    parts = [{}, *({"train": kinds} for kinds in train)]
    edited = [json.dumps(json.loads(manifest) | {"parts": part}) for part in parts]
    for text in ("{", "[]", "{}", "[" * 100_000, *edited):
        (folder / "corpus.json").write_text(text)
        with pytest.raises(DataError, match=r"corpus\.json.*damaged"):
            open_corpus(folder)
    (folder / "corpus.json").write_text(manifest.replace("twil corpus 1", "twil corpus 9"))
    with pytest.raises(DataError, match="twil corpus 9"):
        open_corpus(folder)


def test_another_tokenizer_than_the_one_it_was_encoded_with_is_refused(build: Build, tmp_path: Path) -> None:
    folder = build([write_pairs(tmp_path / "p.tsv", PAIRS)]).path
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").write_text(text.replace("128", "64"), encoding="utf-8")
    with pytest.raises(ModelError, match="not the tokenizer that the corpus was encoded with"):
        open_corpus(folder)


# --- the command


@pytest.fixture
def run() -> Callable[..., object]:
    app = typer.Typer()
    app.command("corpus")(guard(corpus_command.command))
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_says_what_became_of_every_row(
    run: Callable[..., object], tmp_path: Path, tokenizer_file: Path
) -> None:
    path = write_lines(
        tmp_path / "p.tsv", *("\t".join(pair[1::2]) for pair in [*PAIRS, ("", "Sí", "", "No")])
    )
    result = run(path, "-o", tmp_path / "c", "--tokenizer", tokenizer_file, "--dev", 0, "--max-length", 60)
    assert result.exit_code == 0, result.output  # type: ignore[attr-defined]
    counts = {line.rsplit(maxsplit=1)[0]: line.split()[-1] for line in result.stdout.splitlines()}  # type: ignore[attr-defined]
    assert counts["read"] == "6"
    assert counts["left out: no text of more than two words"] == "1"
    assert counts["kept"] == "5"
    assert "rows/s" in result.stderr  # type: ignore[attr-defined]
    assert open_corpus(tmp_path / "c").max_length == 60


def test_the_command_answers_mistakes_with_one_line(
    run: Callable[..., object], tmp_path: Path, tokenizer_file: Path
) -> None:
    path = write_pairs(tmp_path / "p.tsv", PAIRS)
    (tmp_path / "other.json").write_text("{}")
    for arguments, said in (
        (["--tokenizer", tokenizer_file, "--first", "TUIT"], "no column 'TUIT'"),
        (["--tokenizer", tmp_path / "other.json"], "not a tokenizer.json"),
        (["--tokenizer", tokenizer_file, "--on-error", "mark"], "choose one of fail, skip"),
    ):
        result = run(path, "-o", tmp_path / "c", *arguments)
        assert result.exit_code == 1  # type: ignore[attr-defined]
        assert said in result.stderr  # type: ignore[attr-defined]
        assert len(result.stderr.splitlines()) == 1  # type: ignore[attr-defined]
    assert not (tmp_path / "c").exists()


def test_real_pairs_come_out_as_the_tokenizer_gives_them(
    shared: Path, build: Build, tokenizer: Tokenizer
) -> None:
    path = shared / "data" / "pairs_detoxis" / "train.tsv"
    corpus = build([path])
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    rows = (line.split("\t")[1::2] for line in lines)
    kept = [tokens_of(tokenizer, *row) for row in rows if max(len(text.split()) for text in row) > 2]
    assert rows_of(corpus.train.pairs) == kept
    assert corpus.info["rules"]["pairs"]["read"] == len(lines)
