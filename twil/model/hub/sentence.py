"""What a sentence-transformers folder says beside its encoder: how texts come to it, and what vectors are.

`modules.json` lists the modules of such a model in their order: the encoder, a pooling, perhaps dense layers
and a normalisation. The settings of each lie in a folder of its own. No code that they name is run: modules
that twil knows are built here, and any other is named in an error where the vectors are asked for.
"""

# B batch   T tokens   D hidden   P pooled

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, normalizers
from torch import Tensor, nn

from twil.config.model import Pooling
from twil.core.errors import ModelError
from twil.core.storage import read_json
from twil.model.heads import pool
from twil.model.weights import check_finite, folder_tensors

MODULES = "modules.json"
_PROMPTS = "config_sentence_transformers.json"
_ENCODER_SETTINGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Where the library looks for settings of the encoder, in turn."""
_UNFOLLOWED = ("tokenizer_args", "config_args", "model_args", "processor_kwargs", "processing_kwargs")
"""Settings of the encoder that twil does not follow."""
_SETTINGS = "config.json"
_VECTOR = "sentence_embedding"
"""What the library calls the vector that goes from module to module."""

_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The modes as older folders switch them on, in the order in which their vectors are joined."""
_NAMES = {
    "mean": "avg",
    "mean_sqrt_len_tokens": "sqrt-avg",
    "weightedmean": "weighted-avg",
    "lasttoken": "last",
}
"""What twil calls modes of which it has a name of its own."""
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid)
}


@dataclass(frozen=True)
class SentenceModules:
    """The modules of a sentence-transformers folder.

    Attributes:
        root: Where `modules.json` lies.
        encoder: The folder of the encoder.
        behind: The kind and the folder of each module behind it, in their order.
        max_length: The most tokens of a text; None where the tokenizer's own bound holds.
        lowercase: Whether the case of a text is lowered first.
        prompt: What is put before every text; mostly nothing.
        width: How many numbers of a vector are kept; None for all.
        unfollowed: Names of settings that twil does not follow.
    """

    root: Path
    encoder: Path
    behind: tuple[tuple[str, Path], ...]
    max_length: int | None
    lowercase: bool
    prompt: str
    width: int | None
    unfollowed: tuple[str, ...] = ()

    @property
    def pooling(self) -> Pooling | None:
        """The pooling of a classifier that is that of the vectors; None where there is none such."""
        with suppress(ModelError):
            modes = set(self._pooling())
            single = {"cls": "cls", "mean": "avg", "max": "max"}
            if modes == single.keys():
                return "concat"
            if len(modes) == 1:
                return single.get(modes.pop())  # type: ignore[return-value]  # poolings, all of them
        return None

    def prepare_texts(self, tokenizer: Tokenizer) -> None:
        """Let a tokenizer do what the library does to a text: put the prompt before it, lower its case.

        A text of no characters gets no prompt, and one that spells a special token gets it behind that, too.

        Raises:
            ModelError: The prompt spells a special token.
        """
        special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        if spelled := [token for token in special if token in self.prompt]:
            raise ModelError(
                f"{self.root / _PROMPTS}: the default prompt spells the special token {spelled[0]}, which "
                "twil cannot put before a text: give another model"
            )
        steps: list[normalizers.Normalizer] = []
        if self.prompt:
            steps.append(normalizers.Prepend(self.prompt))
        if self.lowercase:
            steps.append(normalizers.Lowercase())
        if steps:
            own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
            tokenizer.normalizer = normalizers.Sequence([*steps, *own])

    def make_vectors(self, hidden_size: int) -> SentenceVectors:
        """Build what makes a vector of a text's hidden states, in evaluation mode.

        Args:
            hidden_size: D.

        Raises:
            ModelError: A module is none that twil knows, or its files do not describe it.
        """
        vectors = SentenceVectors(self._pooling(), hidden_size)
        for kind, folder in self.behind[1:]:
            if kind == "Normalize":
                vectors.append(Normalize(), f"normalised {vectors.name}")
            elif kind == "Dense":
                self._append_dense(folder, vectors)
            elif kind != "Dropout":  # which acts in training alone
                raise self._unknown(f"the module {kind}")
        if self.width is not None and self.width < vectors.size:
            vectors.append(First(self.width), f"first {self.width} of {vectors.name}", self.width)
        return vectors.eval()

    def _pooling(self) -> tuple[str, ...]:
        """Give the modes of the pooling that lies behind the encoder."""
        kind, folder = self.behind[0] if self.behind else ("", self.root)
        if kind != "Pooling":
            raise self._unknown(f"the module {kind} right behind the encoder" if kind else "no pooling")
        told = read_json(folder / _SETTINGS)
        if not told:
            raise ModelError(f"{folder / _SETTINGS} says nothing of the pooling: copy the folder again")
        switched_on = [mode for flag, mode in _FLAGS.items() if told.get(flag)]
        named = told.get("pooling_mode") or switched_on or "mean"
        modes = tuple(map(str, named if isinstance(named, list) else [named]))
        strange = [mode for mode in modes if mode not in _FLAGS.values()]
        strange += [
            flag
            for flag, on in told.items()
            if on and flag.startswith("pooling_mode_") and flag not in _FLAGS
        ]
        if strange:
            raise self._unknown(f"the pooling {', '.join(strange)}")
        if self.prompt and not told.get("include_prompt", True):
            raise self._unknown("a pooling that leaves the prompt out")
        return modes

    def _append_dense(self, folder: Path, vectors: SentenceVectors) -> None:
        told = read_json(folder / _SETTINGS)
        name = str(told.get("activation_function", nn.Tanh.__name__)).rpartition(".")[2]
        ways = {told.get(key) or _VECTOR for key in ("module_input_name", "module_output_name")}
        if name not in _ACTIVATIONS or told.get("use_residual") or ways != {_VECTOR}:
            raise self._unknown(f"a dense layer of another kind ({folder.name})")
        linear = _read_linear(folder, vectors.size)
        size = linear.out_features
        called = "dense" if name == nn.Identity.__name__ else f"{name.lower()} dense"
        vectors.append(
            nn.Sequential(linear, _ACTIVATIONS[name]()), f"{called}({size}) of {vectors.name}", size
        )

    def _unknown(self, what: str) -> ModelError:
        return ModelError(
            f"{self.root / MODULES} asks for {what}, which twil cannot compute: choose another way to "
            "vectors with --pooling, which leaves the folder's modules out, or give another model"
        )


def read_modules(root: Path) -> SentenceModules | None:
    """Read the modules of a folder; None where it says nothing of them.

    Raises:
        ModelError: They cannot be read, or lie outside the folder.
    """
    entries = _read_entries(root)
    if not entries:
        return None
    encoder = root / entries[0][1]
    path = next((encoder / name for name in _ENCODER_SETTINGS if (encoder / name).is_file()), None)
    settings = read_json(path) if path else {}
    told = read_json(root / _PROMPTS) if (root / _PROMPTS).is_file() else {}
    return SentenceModules(
        root=root,
        encoder=encoder,
        behind=tuple((kind, root / path) for kind, path in entries[1:]),
        max_length=_count(settings, "max_seq_length", path),
        lowercase=bool(settings.get("do_lower_case")),
        prompt=_prompt(told, root / _PROMPTS),
        width=_count(told, "truncate_dim", root / _PROMPTS),
        unfollowed=tuple(name for name in _UNFOLLOWED if settings.get(name)),
    )


def module_folders(root: Path) -> list[str]:
    """List the folders of modules within that of `modules.json`; raises as `read_modules`."""
    return [path for _, path in _read_entries(root) if path]


def encoder_folder(root: Path) -> Path:
    """Find the encoder of a folder, which may lie in one of its own; raises as `read_modules`."""
    entries = _read_entries(root)
    return root / entries[0][1] if entries else root


def _count(told: dict[str, Any], name: str, path: Path | None) -> int | None:
    value = told.get(name)
    if value is None or (type(value) is int and value > 0):
        return value
    raise ModelError(f"{path}: {name} is no count, but {value!r}: correct it, or leave it out")


def _prompt(told: dict[str, Any], path: Path) -> str:
    name, prompts = told.get("default_prompt_name"), told.get("prompts")
    if name is None:
        return ""
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    if not isinstance(prompt, str):
        raise ModelError(
            f"{path}: default_prompt_name names no prompt, but {name!r}: correct it, or leave it out"
        )
    return prompt


def _read_entries(root: Path) -> list[tuple[str, str]]:
    """Read the kind and the path of each module, the encoder first; nothing where no file lists them."""
    path = root / MODULES
    if not path.is_file():
        return []
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        entries = [_read_entry(entry) for entry in told]
    except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
        raise ModelError(f"{path} lists no modules ({error}): copy the folder again") from error
    if not entries or entries[0][0] != "Transformer":
        first = entries[0][0] if entries else "nothing"
        raise ModelError(f"{path} begins with {first}, and twil reads encoders: give another model")
    for _, inner in entries:
        if Path(inner).is_absolute() or ".." in Path(inner).parts:
            raise ModelError(f"{path} names a module outside its folder ({inner}): do not use this model")
    return entries


def _read_entry(told: dict[str, Any]) -> tuple[str, str]:
    kind, path = told["type"], told["path"]
    if not (isinstance(kind, str) and isinstance(path, str)):
        raise ValueError("the type or the path of a module is no text")
    return kind.rpartition(".")[2], path


def _read_linear(folder: Path, size: int) -> nn.Linear:
    """Read a dense layer of vectors of so many numbers.

    Raises:
        ModelError: The folder holds none.
    """
    weights = {name.removeprefix("linear."): tensor.float() for name, tensor in folder_tensors(folder)}
    given = weights.get("weight", torch.empty(0))
    linear = nn.Linear(size, len(given) if given.dim() and len(given) else 1, bias="bias" in weights)
    try:
        linear.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(
            f"{folder} holds no dense layer of vectors of {size} numbers: copy the folder again"
        ) from error
    check_finite(linear, folder)
    return linear


class SentenceVectors(nn.Module):
    """Pooling of some modes, whose vectors are joined, and the layers behind it.

    Args:
        modes: Of pooling, as sentence-transformers calls them.
        hidden_size: D.

    Attributes:
        name: What it does, in words that go before "pooling".
        size: P.
    """

    def __init__(self, modes: tuple[str, ...], hidden_size: int) -> None:
        super().__init__()
        self.modes = modes
        self.layers = nn.Sequential()
        self.name = "+".join(_NAMES.get(mode, mode) for mode in modes)
        self.size = hidden_size * len(modes)

    def append(self, layer: nn.Module, name: str, size: int | None = None) -> None:
        """Put a layer behind the others, after which all are called `name` and give `size` numbers."""
        self.layers.append(layer)
        self.name = name
        self.size = size or self.size

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Map hidden states float ``(B, T, D)``, with a mask int64 ``(B, T)``, to vectors ``(B, P)``."""
        pooled = torch.cat([_pool(hidden, attention_mask, mode) for mode in self.modes], dim=-1)
        vectors: Tensor = self.layers(pooled)  # (B, P)
        return vectors


class Normalize(nn.Module):
    """Gives vectors the length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Map float ``(B, P)`` to the same shape."""
        return F.normalize(vectors, dim=-1)


class First(nn.Module):
    """Keeps the first numbers of vectors.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, vectors: Tensor) -> Tensor:
        """Map float ``(B, P)`` to ``(B, count)``."""
        return vectors[:, : self.count]


def _pool(hidden: Tensor, attention_mask: Tensor, mode: str) -> Tensor:
    """Make one vector of a row's hidden states, as `pool` does; pads lie on the right."""
    if mode == "cls":
        return hidden[:, 0]  # (B, D)
    if mode == "max":
        return pool(hidden, attention_mask, "max")
    mean = pool(hidden, attention_mask, "avg")
    if mode == "mean":
        return mean
    count = attention_mask.sum(dim=1, keepdim=True)  # (B, 1)
    if mode == "mean_sqrt_len_tokens":
        return mean * count.to(hidden.dtype).sqrt()
    if mode == "lasttoken":
        last = (count - 1)[:, :, None].expand(-1, 1, hidden.shape[-1])  # (B, 1, D)
        return hidden.gather(1, last)[:, 0]
    weights = (attention_mask * attention_mask.cumsum(dim=1)).to(hidden.dtype)  # 1, 2, … (B, T)
    return (hidden * weights[:, :, None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)
