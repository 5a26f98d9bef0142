"""What a sentence-transformers folder says beside its encoder: how texts come to it, and what vectors are.

`modules.json` lists the modules of such a model in their order: the encoder, a pooling, perhaps dense layers
and a normalisation. The settings of each lie in a folder of its own. No code that they name is run: modules
that twil knows are built here, and any other is named in an error where the vectors are asked for.
"""

# B batch   T tokens   D hidden   P pooled

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, normalizers
from torch import Tensor, nn

from twil.errors import ModelError
from twil.model.heads import pool
from twil.model.weights import check_finite, read_tensors, weights_files
from twil.storage import read_json

MODULES = "modules.json"
_ENCODER_SETTINGS, _PROMPTS = "sentence_bert_config.json", "config_sentence_transformers.json"
_SETTINGS = "config.json"

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
    """

    root: Path
    encoder: Path
    behind: tuple[tuple[str, Path], ...]
    max_length: int | None
    lowercase: bool
    prompt: str
    width: int | None

    def prepare_texts(self, tokenizer: Tokenizer) -> None:
        """Let a tokenizer do what the library does to a text: put the prompt before it, lower its case.

        A text of no characters gets no prompt, and one that spells a special token gets it behind that, too.
        """
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
        if self.prompt and told.get("include_prompt") is False:
            raise self._unknown("a pooling that leaves the prompt out")
        return modes

    def _append_dense(self, folder: Path, vectors: SentenceVectors) -> None:
        told = read_json(folder / _SETTINGS)
        name = str(told.get("activation_function", nn.Tanh.__name__)).rpartition(".")[2]
        inner = told.get("module_input_name") or "sentence_embedding"
        if name not in _ACTIVATIONS or told.get("use_residual") or inner != "sentence_embedding":
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
    settings, told = _read_settings(encoder / _ENCODER_SETTINGS), _read_settings(root / _PROMPTS)
    prompts = told.get("prompts")
    prompt = prompts.get(str(told.get("default_prompt_name"))) if isinstance(prompts, dict) else None
    return SentenceModules(
        root=root,
        encoder=encoder,
        behind=tuple((kind, root / path) for kind, path in entries[1:]),
        max_length=_count(settings.get("max_seq_length")),
        lowercase=bool(settings.get("do_lower_case")),
        prompt=prompt if isinstance(prompt, str) else "",
        width=_count(told.get("truncate_dim")),
    )


def module_folders(root: Path) -> list[str]:
    """List the folders of modules within that of `modules.json`; raises as `read_modules`."""
    return [path for _, path in _read_entries(root) if path]


def encoder_folder(root: Path) -> Path:
    """Find the encoder of a folder, which may lie in one of its own; raises as `read_modules`."""
    entries = _read_entries(root)
    return root / entries[0][1] if entries else root


def _count(told: object) -> int | None:
    return told if type(told) is int and told > 0 else None


def _read_settings(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _read_entries(root: Path) -> list[tuple[str, str]]:
    """Read the kind and the path of each module, the encoder first; nothing where no file lists them."""
    path = root / MODULES
    if not path.is_file():
        return []
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        entries = [(str(entry["type"]).rpartition(".")[2], str(entry["path"])) for entry in told]
    except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
        raise ModelError(f"{path} lists no modules ({error}): copy the folder again") from error
    if not entries or entries[0][0] != "Transformer":
        first = entries[0][0] if entries else "nothing"
        raise ModelError(f"{path} begins with {first}, and twil reads encoders: give another model")
    for _, inner in entries:
        if Path(inner).is_absolute() or ".." in Path(inner).parts:
            raise ModelError(f"{path} names a module outside its folder ({inner}): do not use this model")
    return entries


def _read_linear(folder: Path, size: int) -> nn.Linear:
    """Read a dense layer of vectors of so many numbers.

    Raises:
        ModelError: The folder holds none.
    """
    tensors = {name: tensor for file in weights_files(folder) for name, tensor in read_tensors(file).items()}
    weights = {name.removeprefix("linear."): tensor.float() for name, tensor in tensors.items()}
    given = weights.get("weight", torch.empty(1))
    linear = nn.Linear(size, len(given) if given.dim() else 1, bias="bias" in weights)
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
