"""Write the encoder of a model folder alone, in float16: `python recipes/shipped/pack.py FOLDER TARGET`.

A classifier on it and the log of its training are left out. Weights are read as float32 again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from twil.storage import atomic_folder

KEPT = ("tokenizer.json", "run.json")
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    config = json.loads((options.source / CONFIG).read_text(encoding="utf-8"))
    config["model"] |= {"classifier": None, "task": None}
    with atomic_folder(options.target) as folder:
        for name in KEPT:
            shutil.copy(options.source / name, folder / name)
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        with safe_open(options.source / WEIGHTS, "pt") as weights:
            names = [name for name in weights.keys() if name.startswith("encoder.")]  # noqa: SIM118
            halved = {name: weights.get_tensor(name).to(torch.float16) for name in names}
            save_file(halved, folder / WEIGHTS, metadata=weights.metadata())
    print(f"wrote {options.target}: {(options.target / WEIGHTS).stat().st_size / 1e6:.1f} MB of weights")


if __name__ == "__main__":
    main()
