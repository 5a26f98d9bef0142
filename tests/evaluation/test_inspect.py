"""Looking inside a pretrained model: masks filled, and one row seen as the model sees it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from rich.console import Console
from tokenizers import Tokenizer
from typer.testing import CliRunner, Result

from twil.cli import fill_mask as fill_command
from twil.cli import inspect_model as inspect_command
from twil.cli.main import guard
from twil.config.model import EncoderConfig, ModelConfig, RopConfig
from twil.core.errors import ConfigError, DataError
from twil.evaluation.pretrained.inspection import inspect_row
from twil.evaluation.pretrained.probing import Probe, encode_rows, fill_masks, open_probe, order_probabilities
from twil.model.folder import save
from twil.model.original import import_original
from twil.model.twilbert import TWilBERT
from twil.text.tokenizer import MASK_ID

CASE = Path(__file__).parents[1] / "data" / "original" / "base_like"
TWEET = "¿alguien se apunta a la playa mañana temprano?"
REPLY = "yo llevo la sombrilla y la nevera"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> Path:
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    path = tmp_path_factory.mktemp("inspect") / "model"
    save(path, _model(tokenizer, rop=RopConfig()), tokenizer, {})
    return path


def _model(tokenizer: Tokenizer, **heads: Any) -> TWilBERT:
    encoder = EncoderConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        n_layers=2,
        n_heads=2,
        head_size=16,
        max_positions=80,
        initializer_range=0.3,
    )
    torch.manual_seed(3)
    return TWilBERT(ModelConfig(encoder=encoder, mlm=True, **heads))


@pytest.fixture
def probe(model_folder: Path) -> Probe:
    return open_probe(model_folder, mlm=True, device="cpu")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    pytest.importorskip("h5py")
    imported = import_original(CASE / "weights.hdf5", CASE / "config.json", CASE.parent / "vocab")
    path = tmp_path_factory.mktemp("original") / "base_like"
    save(path, imported.model, imported.tokenizer, {})
    return open_probe(path, mlm=True, device="cpu")


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    rows = [("1", "hola a todos", "2", "hola, ¿qué tal?"), ("3", TWEET, "4", REPLY)]
    lines = ["\t".join(row) for row in (("ORIG_ID", "ORIG_TEXT", "REPLY_ID", "REPLY_TEXT"), *rows)]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command("fill-mask")(guard(fill_command.command))
    app.command("inspect")(guard(inspect_command.command))
    return app


def run(app: typer.Typer, *arguments: object, **options: Any) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), **options)


def best_by_hand(probe: Probe, ids: list[int], k: int) -> list[list[tuple[str, float]]]:
    """Fill the masks of one row the slow way: the whole softmax, sorted."""
    with torch.no_grad():
        hidden = probe.model.encode(torch.tensor([ids]))
        probabilities = probe.model.mlm_logits(hidden)[0].softmax(-1).numpy()
    masks = [place for place, token in enumerate(ids) if token == MASK_ID]
    orders = [np.argsort(-probabilities[place])[:k] for place in masks]
    return [
        [(probe.spell(int(token)), float(probabilities[place, token])) for token in order]
        for place, order in zip(masks, orders, strict=True)
    ]


def check_fills(probe: Probe, text: str, ids: list[int]) -> None:
    (filled,) = fill_masks(probe, [text], top_k=3)
    wanted = best_by_hand(probe, ids, 3)
    assert len(filled.masks) == len(wanted)
    for fills, best in zip(filled.masks, wanted, strict=True):
        assert [fill.token for fill in fills] == [token for token, _ in best]
        np.testing.assert_allclose(
            [fill.probability for fill in fills], [value for _, value in best], rtol=1e-4
        )


@pytest.mark.parametrize("text", ["hoy es un [MASK] día", "[MASK] me [MASK] el mar[MASK]", "[MASK]"])
def test_masks_get_the_likeliest_tokens(probe: Probe, text: str) -> None:
    check_fills(probe, text, probe.tokenizer.encode(text).ids)


def test_masks_get_them_with_original_weights_too_whose_tokenizer_knows_no_mask(original: Probe) -> None:
    ids = [original.tokenizer.encode(text).ids[1:-1] for text in ("¡Hoy es un ", " día, ", "!")]
    assert all(MASK_ID not in part for part in ids)
    row = [3, *ids[0], MASK_ID, *ids[1], MASK_ID, *ids[2], 4]
    check_fills(original, "¡Hoy es un [MASK] día, [MASK]!", row)


def test_several_texts_are_answered_as_each_alone(probe: Probe) -> None:
    texts = ["hola [MASK]", "esta noche no [MASK] nadie, ni [MASK] vecino", "[MASK] días"]
    together = fill_masks(probe, texts)
    for text, filled in zip(texts, together, strict=True):
        (alone,) = fill_masks(probe, [text])
        assert filled.text == text
        for ours, theirs in zip(filled.masks, alone.masks, strict=True):
            assert [fill.text for fill in ours] == [fill.text for fill in theirs]
            np.testing.assert_allclose(
                [fill.probability for fill in ours], [fill.probability for fill in theirs], rtol=1e-4
            )


def favour(probe: Probe, token: str) -> None:
    """Make a token the likeliest one everywhere."""
    assert probe.model.mlm is not None
    number = probe.tokenizer.token_to_id(token)
    assert number is not None
    with torch.no_grad():
        probe.model.mlm.bias[number] += 1000


@pytest.mark.parametrize(
    ("token", "text", "filled"),
    [
        ("▁que", "Dice  [MASK] viene @ana", ["Dice que viene @ana"]),
        ("s", "dos día[MASK] más", ["dos días más"]),
        ("▁que", "[MASK] día y [MASK] noche", ["que día y [MASK] noche", "[MASK] día y que noche"]),
    ],
)
def test_a_filled_text_is_the_users_own_with_the_token_in_it(
    probe: Probe, token: str, text: str, filled: list[str]
) -> None:
    favour(probe, token)
    (answer,) = fill_masks(probe, [text], top_k=1)
    assert [fills[0].text for fills in answer.masks] == filled
    assert all(fills[0].probability == pytest.approx(1) for fills in answer.masks)


@pytest.mark.parametrize(("token", "filled"), [("no", "Año no malo"), ("##do", "Añodo malo")])
def test_tokens_of_original_weights_are_joined_as_its_tokenizer_does(
    original: Probe, token: str, filled: str
) -> None:
    assert original.model.mlm is not None
    before = original.model.mlm.bias.detach().clone()
    favour(original, token)
    (answer,) = fill_masks(original, ["Año [MASK] malo"], top_k=1)
    original.model.mlm.bias.data = before  # the model is shared
    assert answer.masks[0][0].text == filled


@pytest.mark.parametrize("flavour", ["probe", "original"])
def test_masks_that_cannot_be_answered_are_one_clear_error(
    flavour: str, request: pytest.FixtureRequest
) -> None:
    asked: Probe = request.getfixturevalue(flavour)
    long = "la la la " * 60
    with pytest.raises(DataError, match=r"text 2 has no \[MASK\]"):
        fill_masks(asked, ["a [MASK]", "sin máscara"])
    with pytest.raises(DataError, match=r"\[MASK\] 2 of text 1 lies behind the longest row .*: shorten"):
        fill_masks(asked, [f"[MASK] {long} [MASK]"])
    with pytest.raises(ConfigError, match="best 100000 tokens"):
        fill_masks(asked, ["[MASK]"], top_k=100_000)
    with pytest.raises(DataError, match=r"half a character .*U\+D800"):
        fill_masks(asked, ["[MASK] \ud800"])
    (cut,) = fill_masks(asked, [f"[MASK] {long}"])
    (whole,) = fill_masks(asked, ["[MASK] la"])
    assert (cut.truncated, whole.truncated) == (True, False)


def test_the_command_reads_arguments_or_lines_and_writes_tables_or_json(
    app: typer.Typer, model_folder: Path
) -> None:
    texts = ["hoy es un [MASK] día", "[MASK] y [MASK]"]
    done = run(app, "fill-mask", model_folder, *texts, "--top-k", 2, "--device", "cpu")
    assert done.exit_code == 0, done.output
    titles = [line for line in done.stdout.splitlines() if "[MASK]" in line and "0." not in line]
    assert titles == [texts[0], f"{texts[1]} (mask 1 of 2)", f"{texts[1]} (mask 2 of 2)"]
    assert len(re.findall(r" 0\.\d{4}  | 1\.0000  ", done.stdout)) == 6
    arguments = ("fill-mask", model_folder, "--json", "-q", "-k", 2)
    given = run(app, *arguments, *texts)
    for more in ((), ("-",)):
        piped = run(app, *arguments, *more, input="\n".join(texts))
        assert (piped.exit_code, piped.stderr) == (0, "")
        assert json.loads(piped.stdout) == json.loads(given.stdout)
    assert json.loads(given.stdout)[1]["masks"][0][0].keys() == {"token", "probability", "text"}


def test_the_command_ends_with_one_line_where_nothing_can_be_filled(
    app: typer.Typer, model_folder: Path
) -> None:
    done = run(app, "fill-mask", model_folder, "sin nada")
    assert (done.exit_code, done.stdout) == (1, "")
    assert re.fullmatch(r"twil: error: text 1 has no \[MASK\].*\n", done.stderr)


def test_an_inspected_row_holds_what_the_model_says(probe: Probe, pairs_file: Path) -> None:
    orders = set()
    for seed in range(8):
        found = inspect_row(probe, pairs_file, 2, seed=seed)
        assert found == inspect_row(probe, pairs_file, 2, seed=seed)
        assert (found.row, found.place, found.truncated) == (2, "line 3", False)
        assert found.order is not None
        orders.add(found.order.tweet_first)
        pair = (TWEET, REPLY) if found.order.tweet_first else (REPLY, TWEET)
        encoding = probe.tokenizer.encode(*pair)
        assert list(found.tokens) == encoding.tokens

        ids = list(encoding.ids)
        for guess in found.guesses:
            assert guess.true == found.tokens[guess.place]
            ids[guess.place] = probe.tokenizer.get_vocab()[guess.shown]
        with torch.no_grad():
            hidden = probe.model.encode(torch.tensor([ids]), None, torch.tensor([encoding.type_ids]))
            probabilities = probe.model.mlm_logits(hidden)[0].softmax(-1)
        for guess in found.guesses:
            here = probabilities[guess.place]
            assert guess.probability == pytest.approx(here[encoding.ids[guess.place]].item(), rel=1e-4)
            assert guess.best[0][0] == probe.spell(int(here.argmax()))
            assert guess.right == (int(here.argmax()) == encoding.ids[guess.place])
            assert len(guess.best) == 3

        rows, _ = encode_rows(probe, [pair])
        of_orders = order_probabilities(probe, rows)[0]
        assert found.order.probability == pytest.approx(of_orders[int(found.order.tweet_first)])
    assert orders == {True, False}


def test_a_single_text_or_a_model_without_the_head_has_no_verdict(
    probe: Probe, tmp_path: Path, tokenizer: Tokenizer, pairs_file: Path
) -> None:
    (tmp_path / "texts.txt").write_text("solo un texto\n\notro más\n", encoding="utf-8")
    single = inspect_row(probe, tmp_path / "texts.txt", 3)
    assert (single.order, single.place) == (None, "line 3")
    assert single.guesses
    save(tmp_path / "model", _model(tokenizer), tokenizer, {})
    assert inspect_row(open_probe(tmp_path / "model", mlm=True), pairs_file).order is None


def test_a_row_that_is_not_there_is_one_clear_error(probe: Probe, pairs_file: Path) -> None:
    with pytest.raises(DataError, match=r"pairs\.tsv: there is no row 3: the last one is 2"):
        inspect_row(probe, pairs_file, 3)
    with pytest.raises(ConfigError, match="counted from 1"):
        inspect_row(probe, pairs_file, 0)


def test_inspect_can_be_read_without_colours(app: typer.Typer, model_folder: Path, pairs_file: Path) -> None:
    done = run(app, "inspect", model_folder, pairs_file, "--row", 2, "--seed", 5)
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    found = json.loads(
        run(app, "inspect", model_folder, pairs_file, "--row", 2, "--seed", 5, "--json").stdout
    )
    title, *lines = done.stdout.splitlines()
    assert title.endswith("pairs.tsv, row 2 (line 3), seed 5")
    summary = lines.index(f"0 of {len(found['guesses'])} masked tokens found")
    tokens, rest = " ".join(lines[:summary]), lines[summary + 1 :]
    for guess in found["guesses"]:
        assert f"⟦{guess['true']} ✗ {guess['best'][0][0]}⟧" in tokens
        assert any(line.startswith("✗") and guess["true"] in line for line in rest)
    shown, said = re.fullmatch(
        r"order: shown with the (\w+) first; the model says the (\w+) first [✓✗] \(probability .*\)", rest[-1]
    ).groups()  # type: ignore[union-attr]
    assert shown == ("tweet" if found["order"]["tweet_first"] else "reply")
    assert (said == shown) == (found["order"]["probability"] > 0.5)


def test_right_tokens_are_green_and_wrong_ones_red(
    probe: Probe, pairs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = inspect_row(probe, pairs_file, 2)
    favour(probe, found.guesses[0].true)
    text = inspect_command._lay_out_tokens(inspect_row(probe, pairs_file, 2))
    console = Console(force_terminal=True, color_system="standard", width=500)
    with console.capture() as capture:
        console.print(text)
    assert f"\x1b[32m⟦{found.guesses[0].true} ✓⟧\x1b[0m" in capture.get()
    wrong = next(guess for guess in found.guesses if guess.true != found.guesses[0].true)
    assert f"\x1b[31m⟦{wrong.true} ✗ {found.guesses[0].true}⟧\x1b[0m" in capture.get()
