"""Measure a service of single texts beside another, in one run of interleaved rounds over loopback.

    python benchmarks/serve.py --work FOLDER --model FOLDER --onnx FOLDER --bundle FOLDER … --texts FILE

`--model` is a folder of the transformers library with a classifier. FastAPI serves it as its tutorials do:
the library's pipeline, called for each request. BentoML calls the same pipeline for what its adaptive
batching has gathered. infinity serves the ONNX graph of the same weights (`--onnx`) with its engine
`optimum`, which fuses the graph's operators first. `--bundle` are bundles of the same weights, as `twil
export` writes them, which `twil serve` serves. Each service is a process of its own; in each round, 1, 8
and 64 clients in turn ask for one text after another, real ones, for some seconds each. Beside them, `twil
predict` labels a file of the same texts. The clients share the CPUs with the service.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelling_peers import read_rows
from peer_processes import make_environments, python_of, versions
from predict import time_process
from training_runs import table

from twil.core.machine import available_cpus, cpu_name
from twil.core.version import __version__

PACKAGES = {
    "peers": ("torch==2.13.0", "transformers==5.23.0", "fastapi", "uvicorn"),
    "bentoml": ("torch==2.13.0", "transformers==5.23.0", "bentoml==1.4.40"),
    # With a newer optimum its engine finds no graph in a folder.
    "infinity": ("torch==2.13.0", "infinity-emb[server,optimum]==0.0.78", "optimum[onnxruntime]==1.24.0"),
}
SHOWN = ("fastapi", "uvicorn", "bentoml", "infinity_emb", "optimum", "onnxruntime", "transformers", "torch")
CLIENTS = (1, 8, 64)
PORT = 8765
HEAD = "POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
FASTAPI = """
import sys
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline
import uvicorn
pipe = pipeline("text-classification", model=sys.argv[1], device=-1, top_k=None)
app = FastAPI()
class Body(BaseModel):
    inputs: str
@app.get("/ready")
def ready() -> str:
    return "ready"
@app.post("/predict")
def predict(body: Body) -> list:
    return pipe([body.inputs], truncation=True, max_length=128)[0]
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""
BENTOML = """
import os
import bentoml
from transformers import pipeline
@bentoml.service(traffic={"timeout": 60})
class Classifier:
    def __init__(self) -> None:
        self.pipe = pipeline("text-classification", model=os.environ["MODEL"], device=-1, top_k=None)
    @bentoml.api(batchable=True)
    def predict(self, texts: list[str]) -> list[list[dict[str, str | float]]]:
        return self.pipe(texts, batch_size=32, truncation=True, max_length=128)
"""
QUIET = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "True"}
PAGE = """# One text a request, over HTTP

Written by `benchmarks/serve.py`, which says what is counted: twil {twil}, {peers}; {machine};
{rounds} rounds of {seconds} s. Medians of the rounds; the p99 of the worst round.

{table}

`twil predict` on a file of the same texts, from process start to exit: {files}.
"""


@dataclass(frozen=True)
class Service:
    """How a service is started, and what it is asked."""

    command: list[object]
    """`PORT` stands for its port."""
    route: str = "/predict"
    body: Callable[[str], dict[str, Any]] = lambda text: {"inputs": text}
    ready: str = "/ready"
    environment: dict[str, str] = field(default_factory=dict)


def peers(work: Path, model: Path, graph: Path) -> dict[str, Service]:
    """Give the services of other tools; what they need lies in the work folder."""
    app, bento, copy = work / "app.py", work / "classifier.py", work / "infinity-model"
    app.write_text(FASTAPI, encoding="utf-8")
    bento.write_text(BENTOML, encoding="utf-8")
    shutil.copytree(model, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copy(graph / "model.onnx", copy)
    serve = ("-m", "bentoml", "serve", "classifier:Classifier", "--working-dir", work)
    engine = ("--engine", "optimum", "--device", "cpu", "--served-model-name", "m", "--no-model-warmup")
    infinity = python_of(work, "infinity").with_name("infinity_emb")
    return {
        "FastAPI and the pipeline": Service([python_of(work, "peers"), app, model, "PORT"]),
        "BentoML and the pipeline": Service(
            [python_of(work, "bentoml"), *serve, "--port", "PORT"],
            body=lambda text: {"texts": [text]},
            ready="/readyz",
            environment={"MODEL": str(model)},
        ),
        "infinity, ONNX": Service(
            [infinity, "v2", "--model-id", copy, *engine, "--port", "PORT"],
            route="/classify",
            body=lambda text: {"model": "m", "input": [text]},
            ready="/health",
        ),
    }


async def ask(
    service: Service, port: int, texts: list[str], seconds: float, place: int, times: list[float]
) -> None:
    """Be one client: ask for one text after another on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        body = json.dumps(service.body(texts[place % len(texts)])).encode()
        place += 97
        writer.write(HEAD.format(service.route, len(body)).encode() + body)
        said = await reader.readuntil(b"\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 200"), said
        length = int(said.lower().partition(b"content-length:")[2].split()[0])
        await reader.readexactly(length)
        times.append(time.perf_counter() - begin)
    writer.close()


async def load(service: Service, port: int, texts: list[str], clients: int, seconds: float) -> list[float]:
    times: list[float] = []
    asking = (ask(service, port, texts, seconds, 11 * place, times) for place in range(clients))
    await asyncio.gather(*asking)
    return times


async def wait_until_ready(service: Service, port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(3000):
        assert process.poll() is None, "a service ended"
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        writer.write(f"GET {service.ready} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        if (await reader.read()).startswith(b"HTTP/1.1 200"):
            return
        writer.close()
        await asyncio.sleep(0.02)
    raise SystemExit("a service is not ready")


def measure(services: dict[str, Service], texts: list[str], rounds: int, seconds: float) -> dict[str, Any]:
    """Give requests a second, p50 and p99 in ms, of each service and number of clients, round by round."""
    found: dict[str, Any] = {name: {clients: [] for clients in CLIENTS} for name in services}
    for number in range(rounds):
        for place, (name, service) in enumerate(services.items()):
            port = PORT + place
            words = [str(port) if word == "PORT" else str(word) for word in service.command]
            environment = os.environ | QUIET | service.environment
            with subprocess.Popen(
                words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                try:
                    asyncio.run(wait_until_ready(service, port, process))
                    asyncio.run(load(service, port, texts, 8, 3.0))
                    for clients in CLIENTS:
                        times = sorted(asyncio.run(load(service, port, texts, clients, seconds)))
                        p50, p99 = (1000 * times[int(len(times) * share)] for share in (0.5, 0.99))
                        found[name][clients].append((len(times) / seconds, p50, p99))
                        print(
                            f"round {number + 1}  {name}, {clients}: {found[name][clients][-1]}", flush=True
                        )
                finally:
                    process.terminate()
    return found


def render(results: dict[str, Any]) -> str:
    """Lay the results out as Markdown."""
    heads = ["", "clients", "requests/s", "p50, ms", "p99, ms", "ratio"]
    first = next(iter(results["services"].values()))
    lines = []
    for name, by_clients in results["services"].items():
        for clients, rounds in by_clients.items():
            rate, p50 = (statistics.median(each[place] for each in rounds) for place in (0, 1))
            ratio = rate / statistics.median(each[0] for each in first[clients])
            worst = max(each[2] for each in rounds)
            lines.append([name, str(clients), f"{rate:,.1f}", f"{p50:.1f}", f"{worst:.1f}", f"{ratio:.1f} ×"])
    files = ", ".join(f"{name} {rate:,.1f} texts/s" for name, rate in results["files"].items())
    return PAGE.format(**results | {"table": table(heads, lines), "files": files})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="keeps the environments of the peers")
    parser.add_argument("--model", type=Path, required=True, help="a folder of transformers")
    parser.add_argument("--onnx", type=Path, required=True, help="a folder with model.onnx, of token ids")
    parser.add_argument("--bundle", type=Path, action="append", required=True)
    parser.add_argument("--texts", type=Path, required=True, help="a TSV with ID and TEXT")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "serve")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    make_environments(options.work, PACKAGES)
    twil = Path(sys.executable).with_name("twil")
    services = peers(options.work, options.model, options.onnx)
    services |= {
        f"twil serve, {bundle.name}": Service([twil, "serve", bundle, "--port", "PORT", "--quiet"])
        for bundle in options.bundle
    }
    texts = [text for _, text in read_rows(options.texts)]
    measured = measure(services, texts, options.rounds, options.seconds)
    files = {}
    for bundle in options.bundle:
        command = [twil, "predict", options.texts, "--model", bundle, "-o", options.work / "out.tsv"]
        files[bundle.name] = len(texts) / time_process(command)[0]
    results = {
        "twil": __version__,
        "peers": versions(options.work, PACKAGES, SHOWN),
        "machine": f"{cpu_name()}, {available_cpus()} CPUs",
        "rounds": options.rounds,
        "seconds": f"{options.seconds:g}",
        "services": measured,
        "files": files,
    }
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(render(results), encoding="utf-8")
    print(render(results))


if __name__ == "__main__":
    main()
