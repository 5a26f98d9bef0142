"""A page in a browser without a window: what it fetches, what it complains of, and how it is laid out."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")

# Scripts are forbidden in a page, so that another one around it measures it.
MEASURE = """<!doctype html><link rel="icon" href="data:,">
<iframe src="{name}" width="{width}" height="900"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const page = frame.contentDocument, root = page.documentElement;
  const sizes = [...page.querySelectorAll("figure .scroll > svg")].map(drawing => {{
    const {{ width, height }} = drawing.getBoundingClientRect();
    return [width, height];
  }});
  const found = {{ sizes, width: root.scrollWidth, text: root.innerText, scripts: page.scripts.length,
    ground: frame.contentWindow.getComputedStyle(page.body).backgroundColor }};
  document.body.textContent = JSON.stringify(found);
}};
</script>
"""
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000", "--dump-dom"),
)


@dataclass(frozen=True)
class Seen:
    """What a browser made of a page.

    Attributes:
        fetched: What it asked the server for, besides the page.
        console: Its complaints.
        sizes: Width and height of each chart in pixels.
        width: Of what is laid out; more than the window's where the page is scrolled sideways.
        text: As a person reads it.
        scripts: How many there are.
        ground: The colour behind it all.
    """

    fetched: list[str]
    console: list[str]
    sizes: list[tuple[float, float]]
    width: int
    text: str
    scripts: int
    ground: str


def look(page: Path, profile: Path, *, width: int = 1200, dark: bool = False) -> Seen:
    """Open a page in a window of some width, with a fresh profile."""
    assert BROWSER is not None
    (page.parent / "measure.html").write_text(MEASURE.format(name=page.name, width=width), encoding="utf-8")
    scheme = "--blink-settings=preferredColorScheme=" + ("0" if dark else "1")
    with serve(page.parent) as (address, asked):
        done = subprocess.run(
            [BROWSER, *FLAGS, scheme, f"--user-data-dir={profile}", f"{address}/measure.html"],
            capture_output=True,
            text=True,
            check=True,
            timeout=90,
        )
    (body,) = re.findall(r"<body>(.*?)</body>", done.stdout, flags=re.DOTALL)
    found: dict[str, Any] = json.loads(html.unescape(body))
    return Seen(
        fetched=[path for path in asked if path not in ("/measure.html", f"/{page.name}")],
        console=re.findall(r"CONSOLE.*", done.stderr),
        sizes=[(width, height) for width, height in found.pop("sizes")],
        **found,
    )


@contextmanager
def serve(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder on this machine; give the address and the list of what is asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
