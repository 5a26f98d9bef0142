"""Draw docs/images: what a browser shows of the pages that twil writes.

python docs/draw_pages.py [--browser CHROMIUM]

Needs playwright (`pip install playwright`) and a Chromium: `playwright install chromium`, or another one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
DATA = ("examples/tweets_train.tsv", "--dev", "examples/tweets_dev.tsv", "--quiet")
COMMANDS = (
    ("finetune", *DATA, "--seed", "1", "-o", "model"),
    ("finetune", *DATA, "--seed", "1", "--set", "epochs=2", "-o", "short"),
    ("report", "model", "-o", "report.html"),
    ("compare", "examples/tweets_dev.tsv", "model", "short", "-o", "comparison.html"),
    ("explain", "otra vez sin agua, qué asco de día", "me encanta este barrio", "-o", "explanation.html"),
)
SHOTS = (
    ("report", 1000, 1150, "light"),
    ("comparison", 1000, 1150, "light"),
    ("explanation", 390, 640, "dark"),
)
"""A page, the width and height of the window in pixels, and what the reader's system prefers."""

BARE = ("--no-sandbox", "--disable-gpu", "--single-process", "--no-zygote")
"""What lets a Chromium run in a container, too."""


def main() -> None:
    """Write the pages from the examples in a folder of their own, and photograph the top of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--browser", type=Path, help="a Chromium (default: playwright's own)")
    browser_file = parser.parse_args().browser
    images = ROOT / "docs" / "images"
    images.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        (Path(folder) / "examples").symlink_to(ROOT / "examples")
        for command in COMMANDS:
            subprocess.run([sys.executable, "-m", "twil", *command], cwd=folder, env=os.environ, check=True)
        for name, width, height, scheme in SHOTS:
            # One browser a picture: with all in one process, it ends with its first window.
            browser = playwright.chromium.launch(executable_path=browser_file, args=BARE)
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto((Path(folder) / f"{name}.html").as_uri())
            page.screenshot(path=images / f"{name}.png")
            browser.close()


if __name__ == "__main__":
    main()
