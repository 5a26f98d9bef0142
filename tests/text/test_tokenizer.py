"""The tokenizer file: the original's ids, special tokens, pairs, truncation, and what other programs read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from twil.core.errors import ConfigError, DataError, ModelError
from twil.text.tokenizer import (
    CLS_ID,
    MASK_ID,
    PAD_ID,
    SEP_ID,
    SPECIAL,
    UNK_ID,
    check_own,
    encode,
    encode_batch,
    load_tokenizer,
    original_tokenizer,
    save_tokenizer,
    set_max_length,
)

TOKENS = [
    *SPECIAL,
    *(
        "el",
        "perro",
        "##s",
        "come",
        "mucho",
        "pan",
        "user",
        "url",
        ".",
        ",",
        "[",
        "]",
        "cl",
        "##as",
        "ano",
        "n",
    ),
    *("se", "##p", "mas", "##k", "pa", "##d", "un", "##er", "depo", "e", "@", ":", "/", "https", "t"),
]


@pytest.fixture
def vocab_file(tmp_path: Path) -> Path:
    path = tmp_path / "vocab"
    path.write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def tokenizer(vocab_file: Path) -> Tokenizer:
    return original_tokenizer(vocab_file, max_length=10)


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    (ids,) = encode(tokenizer, [text]).input_ids
    assert (ids[0], ids[-1]) == (CLS_ID, SEP_ID)
    return [TOKENS[index] for index in ids[1:-1]]


class TestOriginal:
    def fixture_rows(self, shared: Path) -> list[dict[str, Any]]:
        lines = (shared / "fixtures/tokenizer/tokenizer.jsonl").read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line]

    def test_every_raw_text_gets_the_ids_of_the_original(self, shared: Path) -> None:
        rows = self.fixture_rows(shared)
        tokenizer = original_tokenizer(shared / "data/twilbert/vocab", max_length=600, preprocess=False)
        got = encode(tokenizer, [row["text"] for row in rows])
        assert got.input_ids == [[CLS_ID, *row["ids"], SEP_ID] for row in rows]
        assert len(rows) == 470

    def test_every_preprocessed_text_but_the_one_with_a_named_letter_gets_the_ids_of_the_original(
        self, shared: Path
    ) -> None:
        rows = self.fixture_rows(shared)
        tokenizer = original_tokenizer(shared / "data/twilbert/vocab", max_length=600)
        got = encode(tokenizer, [row["text"] for row in rows]).input_ids
        different = [
            row["text"]
            for row, ids in zip(rows, got, strict=True)
            if ids != [CLS_ID, *row["ids_preprocessed"], SEP_ID]
        ]
        # Letters with a name (&ntilde;) are left as they are written: Twitter never writes them.
        assert different == ["&amp; &lt;3 &gt; &quot;hola&quot; &#39;x&#39; &nbsp; &amp;amp; &ntilde;"]

    def test_case_and_accents_are_lost(self, tokenizer: Tokenizer) -> None:
        assert tokens(tokenizer, "EL AÑO, el perro") == ["el", "ano", ",", "el", "perro"]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("DEPORTE", "depo e"),  # RT taken out of a word
            ("RT @ana_1: hola", "  user: hola"),
            ("juan@correo.example tod@s", "juanuser.example toduser"),  # a domain, an ending read as mentions
            ("HTTPS://t.co/a", "https://t.co/a"),  # upper case missed
            ("(https://t.co/a).", "(url"),
            ("año…pan", "ano pan"),
        ],
    )
    def test_faults_of_the_preprocessing_are_kept(
        self, tokenizer: Tokenizer, text: str, expected: str
    ) -> None:
        assert tokenizer.normalizer.normalize_str(text) == expected

    def test_without_preprocessing_mentions_stay(self, vocab_file: Path) -> None:
        tokenizer = original_tokenizer(vocab_file, max_length=10, preprocess=False)
        assert tokens(tokenizer, "@user: el perro") == ["@", "user", ":", "el", "perro"]

    def test_entities_are_unescaped_once(self, tokenizer: Tokenizer) -> None:
        escaped = "a &lt;3 &quot;b&quot; c&#39;d &amp; e &amp;gt;"
        assert tokenizer.normalizer.normalize_str(escaped) == 'a <3 "b" c\'d & e &gt;'

    def test_a_word_of_more_than_200_characters_is_unknown(self, tokenizer: Tokenizer) -> None:
        assert tokens(tokenizer, "n" + "s" * 199)[0] == "n"
        assert tokens(tokenizer, "n" + "s" * 200) == ["[UNK]"]

    def test_special_tokens_cannot_be_written_in_a_text(self, tokenizer: Tokenizer) -> None:
        set_max_length(tokenizer, 50)
        (ids,) = encode(tokenizer, ["[CLS] [SEP] [MASK] [PAD] [UNK] [cls]"]).input_ids
        assert not {PAD_ID, MASK_ID, CLS_ID, SEP_ID} & set(ids[1:-1])

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"uno\ndos\n", "does not begin with"),
            (b"[PAD]\n[UNK]\n[MASK]\n[CLS]\n[SEP]\nel\nsi\nel\n", "'el' twice"),
            ("[PAD]\nañ".encode("latin-1"), "not UTF-8"),
        ],
    )
    def test_what_is_no_vocabulary_is_refused(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(ModelError, match=message):
            original_tokenizer(tmp_path / "bad", max_length=10)

    def test_a_missing_vocabulary_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"no vocabulary file .*nowhere"):
            original_tokenizer(tmp_path / "nowhere", max_length=10)


class TestEncode:
    def test_a_pair_has_two_segments(self, tokenizer: Tokenizer) -> None:
        got = encode(tokenizer, [("el perro", "come")])
        el, perro, come = (TOKENS.index(token) for token in ("el", "perro", "come"))
        assert got.input_ids == [[CLS_ID, el, perro, SEP_ID, come, SEP_ID]]
        assert got.segment_ids == [[0, 0, 0, 0, 1, 1]]

    def test_single_texts_have_no_segments(self, tokenizer: Tokenizer) -> None:
        assert encode(tokenizer, ["el perro"]).segment_ids is None

    @pytest.mark.parametrize("words", range(14))
    def test_a_text_is_marked_as_truncated_exactly_when_tokens_are_cut(
        self, tokenizer: Tokenizer, words: int
    ) -> None:
        got = encode(tokenizer, [" ".join(["pan"] * words)])
        assert len(got.input_ids[0]) == min(words + 2, 10)
        assert got.truncated.tolist() == [words + 2 > 10]

    def test_the_longer_text_of_a_pair_is_cut(self, tokenizer: Tokenizer) -> None:
        got = encode(
            tokenizer, [("el perro", "come mucho " * 5), ("come mucho " * 5, "el perro"), ("el", "pan")]
        )
        assert got.segment_ids == [[0] * 4 + [1] * 6, [0] * 7 + [1] * 3, [0, 0, 0, 1, 1]]
        assert got.truncated.tolist() == [True, True, False]

    @pytest.mark.parametrize("side", ["right", "left"])
    def test_long_pairs_are_cut_as_short_ones_are(
        self, side: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lengths = (0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 25)
        words = ["el", "perro", "come", "mucho", "pan"] * 5
        rows = [
            (" ".join(words[:first]), " ".join(words[-second:])) for first in lengths for second in lengths
        ]
        tokenizer.enable_truncation(10, direction=side)
        for longest in (7, 8, 10):
            set_max_length(tokenizer, longest)
            expected = [tokenizer.encode(*row) for row in rows]
            monkeypatch.setattr("twil.text.tokenizer._LONG", 1)  # some rows are long, and others are not
            got = encode(tokenizer, rows)
            assert got.input_ids == [row.ids for row in expected]
            assert got.segment_ids == [row.type_ids for row in expected]
            assert got.truncated.tolist() == [bool(row.overflowing) for row in expected]

    def test_of_a_long_pair_no_part_is_joined_with_each_of_the_other(self, tokenizer: Tokenizer) -> None:
        (row,), _ = encode_batch(tokenizer, [("el perro " * 2_000, "come pan " * 2_000)])
        assert (len(row), len(row.overflowing) < 20) == (10, True)  # of more than a million

    def test_rows_come_unpadded_and_apart_from_their_neighbours(self, tokenizer: Tokenizer) -> None:
        texts = ["el perro", "", "el perro come mucho pan", "  \t "]
        alone = [encode(tokenizer, [text]).input_ids[0] for text in texts]
        assert encode(tokenizer, texts).input_ids == alone
        assert [len(ids) for ids in alone] == [4, 2, 7, 2]

    def test_no_texts_give_no_rows(self, tokenizer: Tokenizer) -> None:
        got = encode(tokenizer, [])
        assert (got.input_ids, got.truncated.tolist()) == ([], [])

    @pytest.mark.parametrize(
        ("bad", "said"),
        [
            ("roto \ud83d", r"holds half a character \(a lone surrogate, U\+D83D\)"),
            (("uno", "dos \udc00"), r"holds half a character \(a lone surrogate, U\+DC00\)"),
            (None, "is no text"),
            (7, "is no text"),
            (("a", "b", "c"), "is no text"),
        ],
    )
    def test_what_is_not_text_is_an_error_that_names_the_row(
        self, tokenizer: Tokenizer, bad: object, said: str
    ) -> None:
        with pytest.raises(DataError, match=f"text 2 {said}"):
            encode(tokenizer, ["el perro", bad])  # type: ignore[arg-type]

    @pytest.mark.parametrize("bad", [None, 7, ("uno " * 50, "dos \udc00" * 50), ("a" * 50,) * 3])
    def test_among_pairs_too(self, tokenizer: Tokenizer, bad: object) -> None:
        with pytest.raises(DataError, match="text 2 "):
            encode(tokenizer, [("el perro", "come"), bad])  # type: ignore[list-item]


class TestFile:
    def test_what_is_loaded_gives_the_ids_of_what_was_saved(
        self, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        set_max_length(tokenizer, 6)
        save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
        loaded = load_tokenizer(tmp_path / "tokenizer.json")
        texts = ["El perro de @ana come… mucho pan.", "pan", ""]
        assert encode(loaded, texts).input_ids == encode(tokenizer, texts).input_ids
        assert encode(loaded, texts).truncated.tolist() == [True, False, False]

    def test_other_programs_pad_on_the_right_as_training_does(
        self, tokenizer: Tokenizer, tmp_path: Path
    ) -> None:
        save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
        foreign = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        short, long = foreign.encode_batch(["pan", "el perro come"])
        assert short.ids == [CLS_ID, TOKENS.index("pan"), SEP_ID, PAD_ID, PAD_ID]
        assert short.attention_mask == [1, 1, 1, 0, 0]
        assert len(long.ids) == 5

    def test_saving_leaves_the_tokenizer_unpadded(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
        assert [len(ids) for ids in encode(tokenizer, ["pan", "el perro come"]).input_ids] == [3, 5]

    def test_the_same_tokenizer_is_the_same_bytes(self, vocab_file: Path, tmp_path: Path) -> None:
        for name in ("one.json", "two.json"):
            save_tokenizer(original_tokenizer(vocab_file, max_length=10), tmp_path / name)
        assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()

    def test_special_tokens_have_their_ids(self, tokenizer: Tokenizer) -> None:
        assert [tokenizer.token_to_id(token) for token in SPECIAL] == [
            PAD_ID,
            UNK_ID,
            MASK_ID,
            CLS_ID,
            SEP_ID,
        ]
        assert (PAD_ID, UNK_ID, MASK_ID, CLS_ID, SEP_ID) == (0, 1, 2, 3, 4)

    @pytest.mark.parametrize("max_length", [-1, 0, 2, 4])
    def test_a_length_without_room_for_text_is_refused(self, tokenizer: Tokenizer, max_length: int) -> None:
        with pytest.raises(ConfigError, match="at least 5"):
            set_max_length(tokenizer, max_length)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"no tokenizer .*tokenizer\.json"):
            load_tokenizer(tmp_path / "tokenizer.json")

    @pytest.mark.parametrize(
        "change",
        [
            lambda value: value["model"]["vocab"].update({"[PAD]": 1, "[UNK]": 0}),
            lambda value: value["model"]["vocab"].pop("[MASK]"),
            lambda value: value.update(post_processor=None),
            lambda value: value["post_processor"]["single"].pop(),
            lambda value: value["post_processor"]["single"].append(
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}
            ),
            lambda value: value["post_processor"]["pair"].insert(
                2, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}
            ),
        ],
    )
    def test_a_tokenizer_with_other_special_tokens_or_another_frame_is_not_twil_s_own(
        self, tokenizer: Tokenizer, tmp_path: Path, change: Callable[[dict[str, Any]], object]
    ) -> None:
        value = json.loads(tokenizer.to_str())
        change(value)
        (tmp_path / "tokenizer.json").write_text(json.dumps(value), encoding="utf-8")
        with pytest.raises(ModelError, match=r"\.json (is a tokenizer of another kind|does not put)"):
            check_own(load_tokenizer(tmp_path / "tokenizer.json"), tmp_path / "tokenizer.json")

    @pytest.mark.parametrize("content", ["", "{", "{}", '{"model": {"type": "WordPiece"}}', "\x00\x01"])
    def test_a_broken_file_is_one_clear_line(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
        with pytest.raises(ModelError, match=r"not a tokenizer\.json") as caught:
            load_tokenizer(tmp_path / "tokenizer.json")
        assert "\n" not in str(caught.value)
