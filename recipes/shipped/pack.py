"""Write the encoder of a model folder alone, in float16.

    python recipes/shipped/pack.py FOLDER TARGET ABOUT.md

A classifier on it and what was measured of that while it was trained are left out; ABOUT.md becomes its card.
Weights are read as float32 again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from twil.core.storage import atomic_folder

CONFIG, WEIGHTS, TOKENIZER, RUN = "config.json", "model.safetensors", "tokenizer.json", "run.json"
CARD = "MODEL_CARD.md"
MEASURED = ("history", "results")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("about", type=Path)
    options = parser.parse_args()
    config = json.loads((options.source / CONFIG).read_text(encoding="utf-8"))
    config["model"] |= {"classifier": None, "task": None}
    with atomic_folder(options.target) as folder:
        shutil.copy(options.source / TOKENIZER, folder / TOKENIZER)
        shutil.copy(options.about, folder / CARD)
        run = json.loads((options.source / RUN).read_text(encoding="utf-8"))
        kept = {name: value for name, value in run.items() if name not in MEASURED}
        for name, values in ((CONFIG, config), (RUN, kept)):
            (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        with safe_open(options.source / WEIGHTS, "pt") as weights:
            names = [name for name in weights.keys() if name.startswith("encoder.")]  # noqa: SIM118
            halved = {name: weights.get_tensor(name).to(torch.float16) for name in names}
            save_file(halved, folder / WEIGHTS, metadata=weights.metadata())
    print(f"wrote {options.target}: {(options.target / WEIGHTS).stat().st_size / 1e6:.1f} MB of weights")


if __name__ == "__main__":
    main()
