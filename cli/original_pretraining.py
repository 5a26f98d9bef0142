"""The configuration of a pretraining run, from twil's TOML or from the original's JSON."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from tokenizers import Tokenizer

from twil.cli.console import Display
from twil.config.original.pretraining import OriginalPretraining, read_original_pretraining
from twil.config.pretraining import PretrainConfig, pretrain_config, read_pretrain_config
from twil.core.errors import ConfigError


def read_run(
    path: Path,
    output: Path,
    display: Display,
    *,
    corpus: Path | None,
    init: Path | None,
    settings: Iterable[str],
    reserve: Callable[[PretrainConfig], AbstractContextManager[None]],
) -> PretrainConfig:
    """Read a run's configuration; for one of the original's, make its corpus where there is none yet.

    Args:
        path: A TOML file, or a JSON file of the original.
        output: The model folder to be written; the corpus of an original's run lies beside it.
        display: Where to say what is done differently.
        corpus: In place of the file's.
        init: A model folder in place of the model that the file describes.
        settings: Texts ``section.key=value``, which win over all.
        reserve: Holds the output while a corpus is made, which takes long; raises what keeps the run from
            starting.
    """
    options = {"data": {"corpus": corpus}, "model": {"folder": init}}
    if path.suffix != ".json":
        return read_pretrain_config(path, options, settings)
    original = read_original_pretraining(path)
    for note in original.notes:
        display.warn(note)
    own = output.parent / f"{output.name}.corpus"
    options["data"]["corpus"] = corpus or own
    run = pretrain_config(original.config, options, settings, source=path)
    if run.data.corpus == own:
        _make_corpus(original, own, display, reserve(run))
    return run


def _make_corpus(
    original: OriginalPretraining, target: Path, display: Display, reserved: AbstractContextManager[None]
) -> None:
    from twil.cli.corpus import follow
    from twil.data.corpus.build import CorpusOptions, build_corpus
    from twil.text.tokenizer import original_tokenizer, save_tokenizer

    tokenizer = original_tokenizer(original.vocab_file, max_length=original.max_length)
    if target.exists():
        _check_corpus(target, original, tokenizer)
        display.line(f"the corpus {target} is there already and is used as it is")
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"there is no corpus {target} yet, and several processes cannot make it together: make it "
            "with twil corpus and name it with --corpus"
        )
    with reserved, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.json"
        save_tokenizer(tokenizer, file)
        follow(build_corpus([original.pairs_file], target, file, CorpusOptions(dev=0.01)), display)


def _check_corpus(path: Path, original: OriginalPretraining, tokenizer: Tokenizer) -> None:
    """Refuse a corpus that was made of another file, with another vocabulary or for other lengths.

    Raises:
        ConfigError: It was.
        DataError: It is none, or is damaged.
    """
    from twil.data.corpus.corpus import TOKENIZER_FILE, read_manifest
    from twil.text.tokenizer import load_tokenizer

    files = [file["name"] for file in read_manifest(path).get("files", [])]
    own = load_tokenizer(path / TOKENIZER_FILE)
    if files != [original.pairs_file.name] or own.to_str() != tokenizer.to_str():
        raise ConfigError(
            f"the corpus {path} was made of another file, vocabulary or length than are asked for: "
            "remove it, choose another output, or name the corpus to take (--corpus)"
        )
