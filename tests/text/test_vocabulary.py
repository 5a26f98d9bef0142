"""New vocabularies: what is learned, sentencepiece's own ids, what survives normalisation."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
import sentencepiece
from conftest import CHANGES, change, write_cells
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

from twil.core.errors import ConfigError, DataError, MissingExtraError
from twil.core.installation import install_command
from twil.text.normalization import tweet_normalizer
from twil.text.tokenizer import MASK_ID, SPECIAL, UNK_ID, encode, load_tokenizer, save_tokenizer
from twil.text.vocabulary import TokenModel, TrainedVocabulary, texts_of, train_vocabulary

MODELS: tuple[TokenModel, ...] = ("unigram", "bpe")
SIZE = 400
MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def invented_texts(count: int = 1500) -> list[str]:
    """Give plain Spanish sentences, always the same, without any address or mention."""
    dice = random.Random(7)
    who = ("Mi abuela", "El niño", "La vecina", "Un señor", "Nadie", "¿Quién", "El Árbitro", "Usted", "Tu")
    stems = (
        "cocin",
        "soñ",
        "olvid",
        "busc",
        "cant",
        "mir",
        "llam",
        "pregunt",
        "bail",
        "compr",
        "empuj",
        "pint",
    )
    tenses = ("aba", "ó", "ará", "a", "aría", "arán", "aban", "amos", "aré", "ando", "ado", "ábamos")
    articles = ("la", "un", "2", "su")
    syllables = (
        "ca",
        "ñan",
        "pe",
        "rro",
        "lu",
        "na",
        "ción",
        "mar",
        "ti",
        "güe",
        "ro",
        "sol",
        "dú",
        "que",
        "jo",
    )
    end = (
        ".",
        "…",
        "!!!",
        " jajajaja",
        " 😂😂",
        " ❤️",
        "?",
        " #lunes",
        " ¡qué risa!",
        ", claro.",
        " JAJAJA",
        "",
    )
    return [
        f"{dice.choice(who)} {dice.choice(stems)}{dice.choice(tenses)} {dice.choice(articles)} "
        f"{''.join(dice.choices(syllables, k=dice.randint(2, 4)))}{dice.choice(end)}"
        for _ in range(count)
    ]


def sentencepiece_encoder(trained: TrainedVocabulary) -> sentencepiece.SentencePieceProcessor:
    """Give sentencepiece's own encoder on scores rounded as the tokenizer's are (merges' are whole)."""
    model = sentencepiece_model_pb2.ModelProto.FromString(trained.sentencepiece)
    for token in model.pieces:
        token.score = round(token.score * 1024) / 1024
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return encode(tokenizer, [text]).input_ids[0][1:-1]


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.id_to_token(index) or "" for index in ids(tokenizer, text)]


@pytest.fixture(scope="module", params=MODELS)
def trained(request: pytest.FixtureRequest) -> TrainedVocabulary:
    return train_vocabulary(invented_texts(), size=SIZE, model=request.param, max_length=4096)


class TestNormalizer:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("¡¿Qué AÑO, ñandú…?!", "¡¿Qué AÑO, ñandú…?!"),
            ("👨\u200d👩\u200d👧 ❤\ufe0f 🇪🇸 👏🏽", "👨\u200d👩\u200d👧 ❤\ufe0f 🇪🇸 👏🏽"),
            ("man\u0303ana cafe\u0301", "mañana café"),  # typed as letter and mark
            ("mira https://t.co/aB1?x=1&amp;y=2 HTTP://X.ES/ Https://a.b", "mira url url url"),
            ("(https://t.co/a). «www.correo.example»", "( url). « url»"),
            ("fotopic.twitter.com/aBc t.co/a1 xt.co/a", "foto url url xt.co/a"),
            ("httpd http: https://… http://t…", "httpd http: url… url…"),
            ("@ana_1: hola @@eva, .@luis ¡@ñandú!", " user: hola user, . user ¡ user!"),
            ("juan@correo.example tod@s l@s @ a@", "juan@correo.example tod@s l@s @ a@"),
            ("RT @ana: el DEPORTE", "RT user: el DEPORTE"),
            (
                "&lt;3 &quot;a&quot; l&#39;a l&#039;a&nbsp;b &amp; &amp;lt; &copy;",
                "<3 \"a\" l'a l'a b & &lt; &copy;",
            ),
            ("uno\t\tdos\u00a0\u3000tres\r\n\x00cuatro\u2028▁cinco  ", "uno dos tres cuatro cinco"),
            ("\u2066@ana\u2069\u200b hola", " user hola"),
            (" \n\u200b", ""),
            ("", ""),
        ],
    )
    def test_golden_texts(self, text: str, expected: str) -> None:
        assert tweet_normalizer().normalize_str(text) == expected

    def test_lower_case_and_accents_go_when_asked(self) -> None:
        text = "El AÑO de Ángela, pingüino @Ana"
        assert tweet_normalizer(lowercase=True).normalize_str(text) == "el año de ángela, pingüino user"
        assert tweet_normalizer(strip_accents=True).normalize_str(text) == "El ANO de Angela, pinguino user"
        assert tweet_normalizer(strip_accents=True).normalize_str("한국") == "한국"  # syllables stay whole

    @MANY
    @given(st.text())
    def test_blanks_are_single_spaces_and_none_is_at_the_end(self, text: str) -> None:
        normal = tweet_normalizer().normalize_str(text)
        assert "  " not in normal
        assert not normal.endswith(" ")
        assert not re.search(r"[^\S ]|[\x00-\x1f▁]", normal)


ODD_TEXT = st.lists(
    st.one_of(
        st.sampled_from(invented_texts(40)),
        st.text("ja", max_size=40),
        st.text("JA ", max_size=12),
        st.sampled_from(
            ["https://t.co/a", "@ana", "url", "user", "users", "urlado", "RT", "[CLS]", "[UNK]", "[mask]"]
        ),
        st.text("ñáÑ…¡¿😂❤️\u200d👩▁ \t\u200b漢ÿ▅⁇&;#@", max_size=12),
        st.text(max_size=12),
    ),
    max_size=8,
).map("".join)


class TestEqualToSentencepiece:
    @MANY
    @given(text=ODD_TEXT)
    @example(text="jajajajajajajaja" * 20)
    @example(text="漢字漢字 漢▁▁字 ÿ")
    @example(text="❤️" * 300)
    @example(text="a" * 5000)
    @example(text="\u0301hola")
    def test_on_any_text(self, trained: TrainedVocabulary, text: str) -> None:
        text = text.replace("[MASK]", "")  # only there, the two are meant to differ
        tokenizer = trained.tokenizer
        tokenizer.no_truncation()
        expected = sentencepiece_encoder(trained).encode(tokenizer.normalizer.normalize_str(text))
        assert ids(tokenizer, text) == expected

    @pytest.mark.parametrize("options", [{"strip_accents": True}, {"lowercase": True}])
    @pytest.mark.parametrize("model", MODELS)
    def test_with_case_or_accents_taken_away(self, model: TokenModel, options: dict[str, bool]) -> None:
        trained = train_vocabulary(invented_texts(), size=250, model=model, **options)
        processor = sentencepiece_encoder(trained)
        for text in ("\u0301Hola", "\u20ddÑandú Á", "  Qué @Ana", *invented_texts(200)):
            normal = trained.tokenizer.normalizer.normalize_str(text)
            assert ids(trained.tokenizer, text) == processor.encode(normal)

    @pytest.mark.parametrize("model", MODELS)
    def test_on_10_000_real_tweets(self, shared: Path, model: TokenModel) -> None:
        tweets = list(itertools.islice(texts_of([shared / "data/tweets_unlabelled_es/tweets.tsv"]), 20_000))
        trained = train_vocabulary(tweets[:10_000], size=4000, model=model, max_length=4096)
        processor = sentencepiece_encoder(trained)
        unseen = tweets[10_000:]
        got = [row[1:-1] for row in encode(trained.tokenizer, unseen).input_ids]
        normal = [trained.tokenizer.normalizer.normalize_str(text) for text in unseen]
        different = [
            text for text, mine, its in zip(unseen, got, processor.encode(normal), strict=True) if mine != its
        ]
        assert different == []
        assert len(unseen) == 10_000


class TestTokens:
    def test_special_tokens_come_first_and_the_size_is_met(self, trained: TrainedVocabulary) -> None:
        tokenizer = trained.tokenizer
        assert [tokenizer.id_to_token(index) for index in range(5)] == list(SPECIAL)
        assert trained.tokens == tokenizer.get_vocab_size() == SIZE

    def test_addresses_and_mentions_are_single_tokens_though_no_text_had_one(
        self, trained: TrainedVocabulary
    ) -> None:
        text = "@ana: (https://t.co/a), ¡@eva! www.correo.example… @x😂 @y https://t.co/b"
        found = Counter(tokens(trained.tokenizer, text))
        assert (found["▁user"], found["▁url"]) == (4, 3)

    def test_the_mask_is_a_single_token_among_others(self, trained: TrainedVocabulary) -> None:
        tokenizer = trained.tokenizer
        before, after = tokens(tokenizer, "Mi abuela"), tokens(tokenizer, "buscaba, claro")
        assert tokens(tokenizer, "Mi abuela [MASK] buscaba, claro") == [*before, "[MASK]", *after]
        assert tokens(tokenizer, "Mi abuela [MASK], claro")[len(before) :][:2] == ["[MASK]", ","]
        assert ids(tokenizer, "[MASK] [MASK]") == [MASK_ID, MASK_ID]

    def test_other_special_tokens_cannot_be_written_in_a_text(self, trained: TrainedVocabulary) -> None:
        text = "[CLS] [SEP][PAD] a[UNK] [CLS]la[CLS]漢[SEP] ▁[PAD]▁"
        found = Counter(ids(trained.tokenizer, text))
        assert set(range(5)) & set(found) == {UNK_ID}
        assert found[UNK_ID] == 1  # 漢

    def test_both_texts_of_a_pair_begin_a_word(self, trained: TrainedVocabulary) -> None:
        alone = ids(trained.tokenizer, "la lluvia")
        got = encode(trained.tokenizer, [("la lluvia", "la lluvia")])
        assert got.input_ids == [[3, *alone, 4, *alone, 4]]
        assert got.segment_ids == [[0] * (len(alone) + 2) + [1] * (len(alone) + 1)]

    def test_scores_add_up_exactly_in_single_precision(self) -> None:
        model = json.loads(train_vocabulary(invented_texts(), size=SIZE).tokenizer.to_str())["model"]
        scores = [score for _, score in model["vocab"]]
        assert all((score * 1024).is_integer() for score in scores)
        assert len(set(scores)) > SIZE / 2

    def test_tokens_join_to_the_text(self, trained: TrainedVocabulary) -> None:
        for text in invented_texts(50):
            assert trained.tokenizer.decode(ids(trained.tokenizer, text)) == text

    def test_letters_of_spanish_and_emoji_are_known(self, trained: TrainedVocabulary) -> None:
        assert UNK_ID not in ids(trained.tokenizer, "¿Soñó el ñandú… mañana? ¡Árbitro! 😂❤️")

    def test_the_file_gives_the_same_ids(self, trained: TrainedVocabulary, tmp_path: Path) -> None:
        save_tokenizer(trained.tokenizer, tmp_path / "tokenizer.json")
        loaded = load_tokenizer(tmp_path / "tokenizer.json")
        texts = [*invented_texts(50), "Mi [MASK] 漢 https://t.co/a"]
        assert encode(loaded, texts).input_ids == encode(trained.tokenizer, texts).input_ids


class TestTraining:
    @pytest.mark.parametrize("model", MODELS)
    def test_the_same_texts_and_seed_give_the_same_file(self, model: TokenModel) -> None:
        def made(seed: int) -> str:
            return train_vocabulary(
                invented_texts(), size=250, model=model, sample=300, seed=seed
            ).tokenizer.to_str()

        assert made(3) == made(3)
        assert made(3) != made(4)

    def test_rows_are_counted(self) -> None:
        texts = [*invented_texts(600), "", " \u200b "]
        whole = train_vocabulary(texts, size=250)
        assert (whole.rows_read, whole.rows_used) == (602, 600)
        part = train_vocabulary(iter(texts), size=250, sample=400)
        assert part.rows_read == 602
        assert 398 <= part.rows_used <= 400

    def test_every_part_of_the_texts_is_in_the_sample(self) -> None:
        letters = "αβγδεζηθ"
        texts = [f"{letter} {text}" for letter in letters for text in invented_texts(200)]
        tokenizer = train_vocabulary(texts, size=250, sample=400).tokenizer
        assert UNK_ID not in ids(tokenizer, " ".join(letters))

    @pytest.mark.parametrize("model", MODELS)
    def test_too_large_a_size_names_the_largest(self, model: TokenModel) -> None:
        with pytest.raises(ConfigError, match="30000 are asked for") as caught:
            train_vocabulary(invented_texts(), model=model)
        largest = int(re.search(r"at most (\d+) tokens", str(caught.value))[1])  # type: ignore[index]
        assert train_vocabulary(invented_texts(), size=largest, model=model).tokens == largest
        with pytest.raises(ConfigError, match=f"at most {largest} tokens"):
            train_vocabulary(invented_texts(), size=largest + 1, model=model)

    @pytest.mark.parametrize("model", MODELS)
    @pytest.mark.parametrize("size", [-1, 0, 4, 20])
    def test_too_small_a_size_names_the_smallest(self, model: TokenModel, size: int) -> None:
        with pytest.raises(ConfigError, match=rf"^{size} tokens are too few: .* take \d+"):
            train_vocabulary(invented_texts(), size=size, model=model)

    @pytest.mark.parametrize("texts", [[], ["", "  \n"]])
    def test_no_text_at_all_is_an_error(self, texts: list[str]) -> None:
        with pytest.raises(DataError, match="no text to learn"):
            train_vocabulary(texts)

    @pytest.mark.parametrize("model", MODELS)
    def test_short_texts_are_learned_from(self, model: TokenModel) -> None:
        with pytest.raises(ConfigError, match="give at most") as caught:
            train_vocabulary(["hola"], size=5000, model=model)
        largest = int(re.search(r"at most (\d+) tokens", str(caught.value))[1])  # type: ignore[index]
        tokenizer = train_vocabulary(["hola"], size=largest, model=model).tokenizer
        assert UNK_ID not in ids(tokenizer, "hola @ana https://t.co/a")

    def test_whatever_else_sentencepiece_cannot_do_is_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(**_: object) -> None:
            raise RuntimeError("INTERNAL: trainer.cc(7) [a > b]\nand more.")

        monkeypatch.setattr(sentencepiece.SentencePieceTrainer, "train", fail)
        with pytest.raises(
            ConfigError, match=r"learn 300 tokens .*\(INTERNAL: trainer\.cc\(7\) \[a > b\]\):"
        ):
            train_vocabulary(invented_texts(10), size=300)

    def test_long_texts_are_learned_from(self) -> None:
        long = "zigzag zozobra " * 5000  # longer than what sentencepiece takes by default
        tokenizer = train_vocabulary([*invented_texts(), long], size=SIZE, model="bpe").tokenizer
        assert tokens(tokenizer, "zigzag") == ["▁zigzag"]

    def test_texts_with_the_reserved_character_are_learned_from(self) -> None:
        texts = [*invented_texts(), *["▃▅ zigzag"] * 500]
        tokenizer = train_vocabulary(texts, size=SIZE, model="bpe").tokenizer
        assert tokens(tokenizer, "zigzag") == ["▁zigzag"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"model": "word"}, "choose one of unigram, bpe"),
            ({"sample": 0}, "at least 1"),
            ({"max_length": 3}, "at least 5"),
        ],
    )
    def test_impossible_settings_are_refused(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            train_vocabulary(invented_texts(10), **options)  # type: ignore[arg-type]

    def test_a_missing_sentencepiece_is_answered_with_the_install_command(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "sentencepiece", None)
        with pytest.raises(MissingExtraError, match=rf"{re.escape(install_command('train'))}"):
            train_vocabulary(invented_texts(10))

    def test_nothing_is_printed(self, capfd: pytest.CaptureFixture[str]) -> None:
        train_vocabulary(invented_texts(500), size=250)
        assert capfd.readouterr() == ("", "")


class TestTextsOf:
    @pytest.fixture
    def files(self, tmp_path: Path) -> list[Path]:
        pairs, labelled, plain = tmp_path / "pairs.tsv", tmp_path / "set.jsonl", tmp_path / "lines.txt.gz"
        pairs.write_text(
            "ORIG_ID\tORIG_TEXT\tREPLY_ID\tREPLY_TEXT\n1\t¿Vienes?\t2\tNo puedo\n3\tHola\t4\tBuenas\n",
            "utf-8",
        )
        labelled.write_text('{"ID": 1, "TEXT": "qué calor", "CLASS": "quejas"}\n', "utf-8")
        plain.write_bytes(gzip.compress("una línea\notra más\n".encode()))
        return [pairs, labelled, plain]

    def test_every_text_column_of_every_file_is_read(self, files: list[Path]) -> None:
        assert sorted(texts_of(files)) == sorted(
            ["¿Vienes?", "Hola", "No puedo", "Buenas", "qué calor", "una línea", "otra más"]
        )

    def test_columns_can_be_named(self, files: list[Path]) -> None:
        assert list(texts_of(files[:1], columns=["REPLY_TEXT"])) == ["No puedo", "Buenas"]

    @pytest.mark.parametrize("how", CHANGES)
    def test_a_file_that_changes_while_it_is_read_is_an_error(self, files: list[Path], how: str) -> None:
        for file in files:
            texts = texts_of([file])
            next(texts)
            change(file, how)
            with pytest.raises(DataError, match=rf"{file.name}: changed while it was read"):
                list(texts)

    @pytest.mark.parametrize("ending", ["jsonl", "parquet"])
    def test_what_is_nan_is_no_text(self, tmp_path: Path, ending: str) -> None:
        path = write_cells(tmp_path / f"t.{ending}", TEXT=[0.5, float("nan")])
        assert list(texts_of([path])) == ["0.5", ""]

    def test_a_table_without_text_says_which_columns_it_has(self, tmp_path: Path) -> None:
        (tmp_path / "odd.tsv").write_text("ID\tTWEET\n1\thola\n", "utf-8")
        with pytest.raises(DataError, match=r"odd\.tsv: .* there are ID, TWEET"):
            list(texts_of([tmp_path / "odd.tsv"]))
