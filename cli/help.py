"""How the help of every command is laid out: panels, examples, choices, and defaults from outside it."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.core import TyperArgument, TyperCommand

from twil.core.errors import ConfigError

DEFAULTS_FILE = "twil.toml"
PREFIX = "TWIL"
"""Of the variables that give options their defaults: ``TWIL_PREDICT_THREADS``."""

COMMAND_PANELS = {
    "Use a model": ("label", "predict", "explain", "embed", "fill-mask", "serve", "models"),
    "Train one": (
        "data",
        "finetune",
        "search",
        "distill",
        "vocab",
        "corpus",
        "pretrain",
        "import",
        "recipes",
    ),
    "Judge it": ("evaluate", "compare", "report", "plot", "inspect", "benchmark"),
    "Ship it": ("export", "push"),
    "About twil": ("demo", "doctor"),
}

_PANELS = {
    "Input": {
        *("text", "text_pair", "label", "label_separator", "id_column", "columns", "first", "second"),
        *("first_id", "second_id", "input_format", "no_header", "header", "delimiter", "quoted"),
        *("encoding", "max_row_mb", "dev", "test", "dev_files", "labelled", "without", "corpus"),
        *("limit", "shuffle_seed", "on_error", "data", "drop_duplicates", "split", "calibration"),
        *("evaluation", "map_labels", "task", "labels", "row", "file"),
    },
    "Model": {
        *("model", "init", "tokenizer", "pooling", "keep_head", "head", "student", "also"),
        *("preparation", "size", "max_length", "vocab", "lowercase", "strip_accents", "sample"),
        *("normalize", "tokens"),
    },
    "Training": {
        *("epochs", "lr", "loss", "class_weights", "freeze", "metric", "tune_threshold", "calibrate"),
        *("config", "settings", "runs", "keep_runs", "trials", "sampler", "no_prune", "keep_trials"),
    },
    "Graph": {
        *("onnx", "optimize", "text_in", "triton", "max_drop", "min_agreement", "max_change"),
        *("min_cosine",),
    },
    "Output": {
        *("output", "output_format", "force", "as_json", "quiet", "keep", "file_column", "safe_cells"),
        *("store", "track", "tensorboard", "plot", "json_file", "worst", "no_texts", "sort", "differing"),
        *("private", "license", "language", "dataset"),
    },
    "Run": set[str](),
}
"""The panel of each option by its name in the code; all others belong to the last."""
_TRAINING = {"batch_tokens", "precision", "seed"}
_TRAINERS = {"finetune", "pretrain", "distill", "search"}

_SECRETS = {"api_key"}

_CHOICES = {
    "calibrate": "temperature",
    "device": "auto|cpu|cuda",
    "engine": "local|ray",
    "masking": "span|token",
    "pooling": "cls|avg|max|concat",
    "sampler": "grid|random|tpe",
    "split": "dev|test|train",
    "track": "tensorboard|mlflow|wandb",
    "tune_threshold": "f1",
    ("distill", "head"): "classifier|encoder",
    ("vocab", "model"): "unigram|bpe",
}

EXAMPLES = {
    "benchmark": ("twil benchmark bundle bundle-int8", "twil benchmark bundle --batch 1,32 --length 16,64"),
    "compare": (
        "twil compare test.tsv model other=bundle",
        "twil compare test.tsv model sentiment -o comparison.html",
    ),
    "corpus": (
        "twil corpus pairs.tsv tweets.tsv --tokenizer tokenizer.json",
        "twil corpus tweets.parquet --drop-duplicates --dev 0.02 -o corpus",
    ),
    "data": ("twil data train.tsv dev.tsv test.tsv", "twil data train.tsv --model twil-es"),
    "demo": ("twil demo", "twil demo -o somewhere"),
    "distill": (
        "twil distill LARGE tweets.tsv -o small",
        "twil distill LARGE tweets.tsv --labelled train.tsv --student small",
    ),
    "doctor": ("twil doctor", "twil doctor --json"),
    "embed": (
        "twil embed tweets.tsv --model twil-es -o vectors.npy",
        "twil embed tweets.tsv --model twil-es --tokens -o tokens.parquet",
    ),
    "evaluate": ("twil evaluate model test.tsv", "twil evaluate encoder pairs.tsv --mlm --rop"),
    "explain": (
        "twil explain 'no me gusta nada este barrio'",
        "twil explain 'qué asco de día' --model emotion --label disgust -o words.html",
    ),
    "export": (
        "twil export model --optimize",
        "twil export model --precision int8 --calibration train.tsv --eval dev.tsv",
    ),
    "fill-mask": (
        "twil fill-mask encoder 'hoy es un [MASK] día'",
        "twil fill-mask encoder --top-k 3 < texts.txt",
    ),
    "finetune": (
        "twil finetune train.tsv --dev dev.tsv",
        "twil finetune train.tsv --dev 0.1 --model camembert-base -o model",
        "twil finetune --config irosva19_es --track mlflow -o irony",
    ),
    "import": ("twil import weights.hdf5 --config config.json --vocab vocab -o original",),
    "inspect": ("twil inspect encoder pairs.tsv", "twil inspect encoder pairs.tsv --row 7 --json"),
    "label": (
        "twil label 'me encanta este barrio'",
        "twil label 'qué asco de día' --model sentiment --model emotion",
    ),
    "models": ("twil models", "twil models remove --all"),
    "plot": ("twil plot encoder -o curves.svg",),
    "predict": (
        "twil predict tweets.tsv -o labelled.tsv",
        "twil predict tweets.parquet -m sentiment -m emotion -o labelled.parquet",
        "zcat tweets.txt.gz | twil predict - > labelled.tsv",
    ),
    "pretrain": (
        "twil pretrain tiny -o encoder",
        "twil pretrain base --corpus corpus --set train.steps=1000 --resume",
    ),
    "push": (
        "twil push bundle team/ironia-es --private",
        "twil push model team/ironia-es --license apache-2.0 --language es",
    ),
    "recipes": ("twil recipes", "twil recipes base -o base.toml"),
    "report": ("twil report model", "twil report model --data test.tsv --no-texts -o report.html"),
    "search": (
        "twil search train.tsv --dev dev.tsv --set lr=1e-5,5e-5 --set epochs=3",
        "twil search train.tsv --dev dev.tsv --set lr=1e-5..1e-3 --trials 30 --runs 3",
    ),
    "serve": ("twil serve", "twil serve sentiment mine=bundle --host 0.0.0.0 --port 80"),
    "vocab": ("twil vocab tweets.tsv", "twil vocab pairs.tsv tweets.jsonl --size 8000 -o tokenizer.json"),
}
"""What people type, for the end of each command's help."""


class Command(TyperCommand):
    """A command whose options stand in panels, and take defaults from the environment and ``twil.toml``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self.name is not None
        examples = "\n".join(f"  {line.replace('[', chr(92) + '[')}" for line in EXAMPLES[self.name])
        self.epilog = f"[bold]Examples[/bold]\n{examples}"
        panels = list(_PANELS)
        for parameter in self.params:
            name = parameter.name or ""
            if isinstance(parameter, TyperArgument):
                continue
            parameter.rich_help_panel = self._panel(name)  # type: ignore[attr-defined]
            parameter.metavar = _CHOICES.get((self.name, name), _CHOICES.get(name)) or parameter.metavar
            _show_default_alike(parameter)
        self.params.sort(
            key=lambda one: (
                -1 if isinstance(one, TyperArgument) else panels.index(self._panel(one.name or ""))
            )
        )

    def _panel(self, name: str) -> str:
        if name in _TRAINING and self.name in _TRAINERS:
            return "Training"
        if name == "precision":
            return "Graph"
        return next((panel for panel, names in _PANELS.items() if name in names), "Run")

    def get_help_option(self, ctx: Any) -> Any:
        """Give the option that shows the help, among those of the last panel."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel = "Run"
        return option

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command, and say which options came from elsewhere."""
        if ctx.default_map:
            ctx.default_map = self._defaults(ctx.default_map)
        rest = super().parse_args(ctx, args)
        if not ctx.params.get("quiet"):
            for parameter in self.params:
                source = ctx.get_parameter_source(parameter.name)
                place = {"DEFAULT_MAP": DEFAULTS_FILE, "ENVIRONMENT": "the environment"}.get(
                    source and source.name
                )
                if place and not isinstance(parameter, TyperArgument):
                    value = ctx.params[parameter.name]
                    value = ", ".join(map(str, value)) if isinstance(value, tuple | list) else value
                    value = "(not shown)" if parameter.name in _SECRETS else value
                    option = max(parameter.opts, key=len)
                    print(f"note: from {place}: {option} {value}", file=sys.stderr)  # noqa: T201 (before any display)
        return rest

    def _defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Give the values of options by their names in the code."""
        names = {
            option.lstrip("-"): parameter.name
            for parameter in self.params
            for option in (*parameter.opts, *parameter.secondary_opts)
            if option.startswith("--") and not isinstance(parameter, TyperArgument)
        }
        if unknown := [key for key in given if key.replace("_", "-") not in names]:
            raise ConfigError(
                f"{DEFAULTS_FILE}: twil {self.name} has no option --{unknown[0]}: see its --help"
            )
        found = ((names[key.replace("_", "-")], value) for key, value in given.items())
        return {name: value for name, value in found if name}


def read_defaults(commands: Mapping[str, str]) -> dict[str, Any] | None:
    """Read defaults of options from the file of the current folder, a section for each command.

    Raises:
        ConfigError: It is no such file.
    """
    path = Path(DEFAULTS_FILE)
    if not path.is_file():
        return None
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no TOML file: {error}") from error
    for name, section in given.items():
        if name not in commands or not isinstance(section, dict):
            raise ConfigError(f"{path}: there is no command '{name}': its sections are named as commands are")
    return given


def _show_default_alike(parameter: Any) -> None:
    """Show a default as those that are described are shown: in brackets, behind the help."""
    value = parameter.default
    if parameter.show_default is True and value not in (None, False, "", (), []) and not callable(value):
        parameter.help = f"{parameter.help or ''} [dim]\\[{value}][/dim]"
    parameter.show_default = parameter.show_envvar = False
