"""The tokenizer of a transformers folder as one `tokenizer.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from twil.core.errors import ModelError, first_line
from twil.core.storage import write_json
from twil.model.hub.library import hushed
from twil.model.hub.sentence import SentenceModules
from twil.text.special import find_special
from twil.text.tokenizer import check_tokens, truncation_side, try_tokenizer

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"

_LONGEST = 1_000_000
"""What the library writes for "no bound" is far above; what means a bound is below."""


def read_tokens(folder: Path, sentence: SentenceModules | None = None) -> tuple[Tokenizer, int | None]:
    """Read a folder's tokenizer as the library does, and the longest row that it is meant to give.

    Args:
        folder: The folder.
        sentence: What sentence-transformers wrote there, which may prepare texts and bound their length.

    Raises:
        ModelError: There is none, or none that the tokenizers library can run, or it is of another kind.
        MissingExtraError: transformers is not installed.
    """
    if (folder / TOKENIZER).is_file():
        check_tokens((folder / TOKENIZER).read_bytes(), folder / TOKENIZER)
    with hushed() as library:
        try:
            found = library.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # whatever the files of others lead to
            raise ModelError(
                f"the tokenizer of {folder} cannot be read by transformers {library.__version__} "
                f"({first_line(error)}): give a model with a tokenizer.json"
            ) from error
    if not found.is_fast:
        raise ModelError(
            f"{folder} has a tokenizer in Python alone ({type(found).__name__}), which nothing else can run: "
            "give a model whose tokenizer the tokenizers library runs"
        )
    named = [name for name in found.vocab_files_names.values() if (folder / name).is_file()]
    if not named:  # the library would make one of a handful of tokens
        raise ModelError(
            f"{folder} has no tokenizer (none of {', '.join(found.vocab_files_names.values())}): copy "
            "its files into the folder"
        )
    tokenizer = Tokenizer.from_str(found.backend_tokenizer.to_str())
    try_tokenizer(tokenizer, f"the tokenizer of {folder}")
    tokenizer.no_padding()
    # Its length is set once the model is known; the end at which rows are cut stays.
    tokenizer.enable_truncation(_LONGEST, direction=found.truncation_side)
    find_special(tokenizer, source=f"the tokenizer of {folder}")
    longest = found.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float):
        raise ModelError(f"{folder / SETTINGS}: model_max_length is no number, but {longest!r}: correct it")
    longest = int(longest) if longest < _LONGEST else None
    if sentence is not None:
        sentence.prepare_texts(tokenizer)
        longest = sentence.max_length or longest
    return tokenizer, longest


def write_settings(path: Path, tokenizer: Tokenizer, *, longest: int, segments: bool) -> None:
    """Write what the transformers library needs beside a `tokenizer.json` to open it."""
    special = find_special(tokenizer, source="the tokenizer")
    names: dict[str, Any] = {
        "pad_token": special.pad,
        "cls_token": special.cls,
        "sep_token": special.sep,
        "unk_token": special.unknown,
        "mask_token": special.mask,
    }
    inputs = ["input_ids", *(["token_type_ids"] if segments else []), "attention_mask"]
    write_json(
        path,
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": longest,
            "model_input_names": inputs,
            "truncation_side": truncation_side(tokenizer),
            "clean_up_tokenization_spaces": False,
            **{name: tokenizer.id_to_token(token) for name, token in names.items() if token is not None},
        },
    )
