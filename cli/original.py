"""The configuration of a pretraining run, from twil's TOML or from the original's JSON."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from twil.cli.console import Display
from twil.config.original import OriginalPretraining, read_original_pretraining
from twil.config.pretraining import PretrainConfig, pretrain_config, read_pretrain_config
from twil.errors import ConfigError


def read_run(
    path: Path,
    output: Path,
    display: Display,
    *,
    corpus: Path | None,
    init: Path | None,
    settings: Iterable[str],
) -> PretrainConfig:
    """Read a run's configuration; for one of the original's, make its corpus where there is none yet.

    Args:
        path: A TOML file, or a JSON file of the original.
        output: The model folder to be written; the corpus of an original's run lies beside it.
        display: Where to say what is done differently.
        corpus: In place of the file's.
        init: A model folder in place of the model that the file describes.
        settings: Texts ``section.key=value``, which win over all.
    """
    options = {"data": {"corpus": corpus}, "model": {"folder": init}}
    if path.suffix != ".json":
        return read_pretrain_config(path, options, settings)
    original = read_original_pretraining(path)
    for note in original.notes:
        display.warn(note)
    if corpus is None:
        options["data"]["corpus"] = _corpus(original, output, display)
    return pretrain_config(original.config, options, settings, source=path)


def _corpus(original: OriginalPretraining, output: Path, display: Display) -> Path:
    from twil.cli.corpus import follow
    from twil.data.corpus_building import CorpusOptions, build_corpus
    from twil.text.tokenizer import original_tokenizer, save_tokenizer

    target = output.with_name(output.name + ".corpus")
    if target.exists():
        display.line(f"the corpus {target} is there already and is used as it is")
        return target
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"there is no corpus {target} yet, and several processes cannot make it together: make it "
            "with twil corpus and name it with --corpus"
        )
    tokenizer = original_tokenizer(original.vocab_file, max_length=original.max_length)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.json"
        save_tokenizer(tokenizer, file)
        follow(build_corpus([original.pairs_file], target, file, CorpusOptions(dev=0.01)), display)
    return target
