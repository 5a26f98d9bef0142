"""`twil import`: a model folder from weights of the original TWilBERT."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from twil.cli.console import Display
from twil.cli.options import FolderOutput, Force, Quiet, name_output


def command(
    weights: Annotated[Path, typer.Argument(help="The HDF5 file that Keras wrote.")],
    config: Annotated[Path, typer.Option(help="The original's JSON configuration of that model.")],
    vocab: Annotated[Path, typer.Option(help="The original's vocabulary, one token per line.")],
    output: FolderOutput = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Import weights of the original TWilBERT."""
    from twil.core.storage import reserved_folder, sha256
    from twil.model.folder import FILES, save
    from twil.model.original import import_original
    from twil.model.text_model import parameter_count

    with Display(quiet=quiet) as display, ExitStack() as held:
        output = name_output(display, output, weights, "encoder")
        held.enter_context(reserved_folder(output, overwrite=force, own=FILES))
        imported = import_original(weights, config, vocab)
        run = {
            "command": "import",
            "files": {str(path): sha256(path) for path in (weights, config, vocab)},
            "notes": list(imported.notes),
        }
        save(output, imported.model, imported.tokenizer, run, overwrite=force)
        for note in imported.notes:
            display.warn(note)
        display.line(
            f"wrote {output}: {imported.tensors} tensors, {parameter_count(imported.model):,} parameters"
        )
