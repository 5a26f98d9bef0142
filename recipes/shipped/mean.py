"""Average the weights of runs that began with the same weights (Wortsman et al. 2022).

    python recipes/shipped/mean.py TARGET RUN [RUN …]

What was measured of the first run is left out of the record.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from twil.core.storage import atomic_folder

CONFIG, WEIGHTS, TOKENIZER, RUN = "config.json", "model.safetensors", "tokenizer.json", "run.json"
MEASURED = ("history", "results", "best_step", "best_epoch")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    first = options.runs[0]
    weights = [load_file(run / WEIGHTS) for run in options.runs]
    mean = {name: torch.stack([each[name] for each in weights]).mean(0) for name in weights[0]}
    record = json.loads((first / RUN).read_text(encoding="utf-8"))
    kept = {name: value for name, value in record.items() if name not in MEASURED}
    with atomic_folder(options.target) as folder, safe_open(first / WEIGHTS, "pt") as source:
        for name in (CONFIG, TOKENIZER):
            shutil.copy(first / name, folder / name)
        (folder / RUN).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        save_file(mean, folder / WEIGHTS, metadata=source.metadata())
    print(f"wrote {options.target}: the mean of {len(weights)} runs")


if __name__ == "__main__":
    main()
