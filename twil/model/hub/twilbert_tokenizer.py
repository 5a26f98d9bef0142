"""The `tokenizer.json` of a TWilBERT model, as the transformers library reads and writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from twil.core.errors import ModelError
from twil.model.hub.tokens import TOKENIZER
from twil.text.tokenizer import CLS, MASK, PAD, SEP, SPECIAL, UNK, check_own, load_tokenizer, max_length


class TwilbertTokenizer(PreTrainedTokenizerFast):  # type: ignore[misc]  # the library is not typed
    """Gives the same tokens as twil.

    As in twil, rows are cut at the length that the file says, unless the caller asks otherwise, and a text
    that says "[SEP]" cannot write one. It can write a [MASK], which is how a masked token is asked for.

    Args:
        tokenizer_file: The `tokenizer.json`.
        tokenizer_object: In its place a tokenizer.
        **settings: The library's.

    Raises:
        ModelError: There is no such file, or it holds another kind of tokenizer.
    """

    vocab_files_names = {"tokenizer_file": TOKENIZER}  # noqa: RUF012
    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]  # noqa: RUF012

    def __init__(
        self,
        *,
        tokenizer_file: str | None = None,
        tokenizer_object: Tokenizer | None = None,
        **settings: Any,
    ) -> None:
        if tokenizer_object is None:
            if tokenizer_file is None:
                raise ModelError(f"there is no {TOKENIZER} in {settings.get('name_or_path', 'the folder')}")
            tokenizer_object = load_tokenizer(tokenizer_file)
            check_own(tokenizer_object, Path(tokenizer_file))
        # It is written again byte for byte, by which twil knows it.
        self._file = Path(tokenizer_file).read_bytes() if tokenizer_file else None
        names = {"pad_token": PAD, "unk_token": UNK, "mask_token": MASK, "cls_token": CLS, "sep_token": SEP}
        longest = {"model_max_length": max_length(tokenizer_object)}
        super().__init__(
            tokenizer_object=tokenizer_object,
            **{"clean_up_tokenization_spaces": False, **names, **longest, **settings},
        )

    @classmethod
    def convert_to_native_format(cls, **settings: Any) -> dict[str, Any]:
        """Leave the file as it is: of a class with its own ``__init__`` the library would take it apart."""
        settings.pop("trust_remote_code", None)
        return settings

    def _add_tokens(self, new_tokens: list[Any], special_tokens: bool = False) -> int:
        wanted = [token for token in new_tokens if str(token) == MASK or str(token) not in SPECIAL]
        return int(super()._add_tokens(wanted, special_tokens=special_tokens)) if wanted else 0

    def _get_padding_truncation_strategies(
        self, padding: Any = False, truncation: Any = None, **settings: Any
    ) -> Any:
        truncation = True if truncation is None else truncation
        return super()._get_padding_truncation_strategies(padding=padding, truncation=truncation, **settings)

    def _decode(self, token_ids: Any, skip_special_tokens: bool = False, **settings: Any) -> str:
        if skip_special_tokens and not isinstance(token_ids, int):
            hidden = set(self.all_special_ids)
            token_ids = [token for token in token_ids if token not in hidden]
        return str(super()._decode(token_ids, skip_special_tokens=skip_special_tokens, **settings))

    def _save_pretrained(
        self, save_directory: Any, file_names: Any, legacy_format: Any = None, filename_prefix: Any = None
    ) -> Any:
        if self._file is None or self.get_added_vocab().keys() - {MASK}:
            return super()._save_pretrained(save_directory, file_names, legacy_format, filename_prefix)
        path = Path(save_directory) / (f"{filename_prefix}-{TOKENIZER}" if filename_prefix else TOKENIZER)
        path.write_bytes(self._file)
        return (*file_names, str(path))
