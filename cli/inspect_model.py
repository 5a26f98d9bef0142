"""`twil inspect`: one row as a pretrained model meets it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from twil.cli.console import Display, make_table, show, show_json
from twil.cli.options import AsJson, Device, Quiet
from twil.cli.reading import reads_tables
from twil.cli.visible import visible
from twil.config.reading import AS_FOUND, Reading

if TYPE_CHECKING:
    from twil.evaluation.pretrained.inspection import Guess, Inspection, OrderVerdict

RIGHT, WRONG = "green", "red"


@reads_tables
def command(
    model: Annotated[Path, typer.Argument(help="A pretrained model folder.")],
    file: Annotated[Path, typer.Argument(help="Pairs or single texts.")],
    row: Annotated[int, typer.Option(min=1, help="Which row of the file.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the masking, and of the order of a pair.")] = 1,
    first: Annotated[str | None, typer.Option(help="Column of the (first) texts.")] = None,
    second: Annotated[str | None, typer.Option(help="Column of the replies.")] = None,
    reading: Reading = AS_FOUND,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Mask tokens of one row, and show what the model makes of it."""
    from twil.data.corpus.pairs import PairColumns

    with Display(quiet=quiet, doing=f"loading {model}") as display:
        from twil.evaluation.pretrained.inspection import inspect_row
        from twil.evaluation.pretrained.probing import open_probe

        probe = open_probe(model, mlm=True, device=device)
        columns = PairColumns(first=first, second=second)
        found = inspect_row(probe, file, row, seed=seed, columns=columns, reading=reading)
    if as_json:
        show_json(found.as_dict())
        return
    show(Text(visible(f"{file}, row {found.row} ({found.place}), seed {seed}"), style="bold"))
    show(_lay_out_tokens(found))
    show(_lay_out_guesses(found.guesses))
    if found.order is not None:
        show(_lay_out_verdict(found.order))
    if found.truncated:
        display.warn("the row was cut at the longest one that the model reads")


def _lay_out_tokens(found: Inspection) -> Text:
    """Write the row with its masked tokens in brackets: ✓ the token, or ✗ the model's instead of it."""
    guesses = {guess.place: guess for guess in found.guesses}
    line = Text()
    for place, token in enumerate(found.tokens):
        line.append(" " if place else "")
        guess = guesses.get(place)
        if guess is None:
            line.append(visible(token))
        elif guess.right:
            line.append(visible(f"⟦{token} ✓⟧"), RIGHT)
        else:
            line.append(visible(f"⟦{token} ✗ {guess.best[0][0]}⟧"), WRONG)
    return line


def _lay_out_guesses(guesses: tuple[Guess, ...]) -> RenderableType:
    rows = [
        [
            "✓" if guess.right else "✗",
            guess.true,
            guess.probability,
            guess.shown,
            *(f"{token}  {probability:.3f}" for token, probability in guess.best),
        ]
        for guess in guesses
    ]
    right = sum(guess.right for guess in guesses)
    places = ("likeliest", "second", "third")
    columns = ["", "true token", "probability", "shown as", *places[: len(guesses[0].best) if guesses else 0]]
    return make_table(f"{right} of {len(guesses)} masked tokens found", columns, rows)


def _lay_out_verdict(order: OrderVerdict) -> Text:
    names = ("the reply first", "the tweet first")
    said = names[order.tweet_first if order.right else not order.tweet_first]
    probability = order.probability if order.right else 1 - order.probability
    line = Text(f"order: shown with {names[order.tweet_first]}; the model says ")
    mark = "✓" if order.right else "✗"
    return line.append(f"{said} {mark}", RIGHT if order.right else WRONG).append(
        f" (probability {probability:.3f})"
    )
