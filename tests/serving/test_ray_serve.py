"""The service on Ray Serve answers as it does on one machine; skipped where Ray Serve is not installed."""

from __future__ import annotations

import json
import runpy
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from bundles import write_bundle

from twil.inference.predictor import Predictor

DEPLOYED = Path(__file__).parents[2] / "deploy" / "ray_serve.py"


@pytest.mark.timeout(240)
def test_an_application_of_ray_serve_gives_the_answers_of_a_predictor(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="ray[serve] is not installed")
    ray = pytest.importorskip("ray")
    serve = pytest.importorskip("ray.serve")
    bundle = write_bundle(tmp_path / "bundle")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(runpy.run_path(str(DEPLOYED))["app"]({"models": f"mine={bundle}"}), name="twil")

        def ask(path: str, body: object) -> Any:
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode())
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)

        texts = ["me encanta este barrio", "qué asco"]
        with Predictor(bundle) as predictor:
            expected = [told.probabilities for told in predictor(texts)]
        for path in ("/predict", "/models/mine/predict"):
            told = ask(path, {"inputs": texts})
            found = [{each["label"]: each["score"] for each in row} for row in told]
            for row, wanted in zip(found, expected, strict=True):
                assert row == pytest.approx(wanted, abs=1e-5)
    finally:
        serve.shutdown()
        ray.shutdown()
