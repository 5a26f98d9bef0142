"""A service on HTTP: the same answers as elsewhere, whoever asks beside, and one line for what is wrong."""

from __future__ import annotations

import asyncio
import base64
import gc
import http.client
import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from bundles import make_tokenizer, write_bundle
from processes import TwilProcess

from twil.config.model import EncoderConfig, ModelConfig
from twil.core.errors import ModelError
from twil.core.task import Task
from twil.exporting.bundle import export_onnx
from twil.inference.embedder import Embedder
from twil.inference.fill_mask import MaskFiller
from twil.inference.predictor import Predictor
from twil.model.folder import save
from twil.model.twilbert import TWilBERT
from twil.serving.app import MAX_TEXTS, RequestLog, Service, ServiceOptions, make_app, open_engine
from twil.serving.batching import Batcher, QueueFullError

TEXTS = ["me encanta este barrio", "qué asco", "", "hoy abre el mercado " * 9, "a"] * 5
KEY = "una clave larga"
PAIRS = Task("class", ("no", "si"), pair=True)
SEVERAL = Task("multi-label", ("joy", "fear"))


@dataclass
class Served:
    """A service that listens in a thread."""

    port: int
    app: Any
    log: list[RequestLog] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(
            method, path, raw, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        response = connection.getresponse()
        said = response.read()
        connection.close()
        is_json = (response.headers["content-type"] or "").startswith("application/json")
        return response.status, json.loads(said) if is_json else said.decode(), response.headers

    def post(self, path: str, body: object, **headers: str) -> Any:
        status, said, _ = self.ask("POST", path, body, **headers)
        assert status == 200, said
        return said


def serve(models: dict[str, Path], options: ServiceOptions | None = None) -> Iterator[Served]:
    """Listen in a thread until the test is done."""
    app = make_app({name: str(path) for name, path in models.items()}, options)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    try:
        yield Served(server.servers[0].sockets[0].getsockname()[1], app)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("served")
    tasks = {"polarity": None, "feelings": SEVERAL, "pairs": PAIRS}
    found = {name: write_bundle(folder / name, *([task] if task else [])) for name, task in tasks.items()}
    return found | {"vectors": write_bundle(folder / "vectors", None)}


@pytest.fixture(scope="module")
def served(bundles: dict[str, Path]) -> Iterator[Served]:
    yield from serve(bundles)


def scores(told: list[dict[str, Any]]) -> dict[str, float]:
    return {each["label"]: each["score"] for each in told}


def test_labels_are_those_of_a_predictor_whoever_asks_beside(
    served: Served, bundles: dict[str, Path]
) -> None:
    with Predictor(bundles["polarity"]) as predictor:
        expected = [prediction.probabilities for prediction in predictor(TEXTS)]
    whole = served.post("/predict", {"inputs": TEXTS})
    with ThreadPoolExecutor(16) as pool:
        alone = list(pool.map(lambda text: served.post("/predict", {"inputs": text}), TEXTS))
    for told in (whole, alone):
        for row, wanted in zip(told, expected, strict=True):
            assert scores(row) == pytest.approx(wanted, abs=1e-5)
            assert row[0]["score"] == max(each["score"] for each in row)


def test_models_are_named_in_the_body_or_in_the_path(served: Served, bundles: dict[str, Path]) -> None:
    by_body = served.post("/predict", {"inputs": "hola", "model": "feelings"})
    assert by_body == served.post("/models/feelings/predict", {"inputs": "hola"})
    assert set(scores(by_body)) == set(SEVERAL.labels)
    pairs = served.post("/models/pairs/predict", {"inputs": ["hola", "adiós"]})
    with Predictor(bundles["pairs"]) as predictor:
        assert scores(pairs) == pytest.approx(predictor([("hola", "adiós")])[0].probabilities, abs=1e-5)
    told = served.ask("GET", "/models")[1]["models"]
    assert [each["name"] for each in told] == list(bundles)
    assert told[0]["labels"] == ["NEG", "NEU", "POS"]
    assert not any(str(path.parent) in json.dumps(told) for path in bundles.values())


def test_vectors_are_those_of_an_embedder(served: Served, bundles: dict[str, Path]) -> None:
    with Embedder(bundles["vectors"]) as embedder:
        expected = embedder(TEXTS)
    np.testing.assert_allclose(served.post("/models/vectors/embed", {"inputs": TEXTS}), expected, atol=1e-5)
    told = served.post("/v1/embeddings", {"input": TEXTS, "model": "vectors"})
    np.testing.assert_allclose([each["embedding"] for each in told["data"]], expected, atol=1e-5)
    assert told["usage"]["total_tokens"] > len(TEXTS)
    coded = served.post(
        "/v1/embeddings", {"input": TEXTS[0], "model": "vectors", "encoding_format": "base64"}
    )
    vector = np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(vector, expected[0], atol=1e-5)
    short = served.post("/models/vectors/embed", {"inputs": TEXTS, "normalize": True})
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-5)


def test_the_client_of_the_hub_is_answered_as_it_expects(served: Served, bundles: dict[str, Path]) -> None:
    hub = pytest.importorskip("huggingface_hub")
    client = hub.InferenceClient(model=served.url)
    with Predictor(bundles["polarity"]) as predictor:
        expected = predictor(TEXTS[0]).probabilities
    told = client.text_classification(TEXTS[0])
    assert {each.label: each.score for each in told} == pytest.approx(expected, abs=1e-5)
    assert len(client.text_classification(TEXTS[0], top_k=1)) == 1
    vectors = hub.InferenceClient(model=f"{served.url}/models/vectors").feature_extraction(TEXTS[0])
    with Embedder(bundles["vectors"]) as embedder:
        np.testing.assert_allclose(vectors[0], embedder(TEXTS[0]), atol=1e-5)


def test_the_client_of_openai_is_answered_as_it_expects(served: Served, bundles: dict[str, Path]) -> None:
    openai = pytest.importorskip("openai")
    with (
        Embedder(bundles["vectors"]) as embedder,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key=KEY.replace(" ", "-"), max_retries=0) as client,
    ):
        for coding in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
            told = client.embeddings.create(model="vectors", input=TEXTS, **coding)
            rows = [each.embedding for each in told.data]
            if isinstance(rows[0], str):  # base64 that was asked for by name is left to the caller
                rows = [np.frombuffer(base64.b64decode(row), "<f4").tolist() for row in rows]
            np.testing.assert_allclose(rows, embedder(TEXTS), atol=1e-5)
            assert told.usage.total_tokens > len(TEXTS)
        with pytest.raises(openai.NotFoundError, match="no model is called so"):
            client.embeddings.create(model="otro", input="a")


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/predict", b"{", 400, "no JSON"),
        ("/predict", b"[" * 100_000, 400, "no JSON"),
        ("/predict", b"\xff", 400, "no JSON"),
        ("/predict", ["a"], 422, "no object"),
        ("/predict", {}, 422, "inputs is a text"),
        ("/predict", {"inputs": []}, 422, "no text"),
        ("/predict", {"inputs": ["a", 3]}, 422, r"inputs\[1\] is no text"),
        ("/predict", {"inputs": "\ud83d"}, 422, "whole characters"),
        ("/predict", {"inputs": ["a"] * (MAX_TEXTS + 1)}, 413, "at most 1,024"),
        ("/predict", b" " * (2 << 20), 413, "bytes"),
        ("/predict", {"inputs": "a", "model": "../etc"}, 404, "no model is called so"),
        ("/predict", {"inputs": "a", "model": ["x"]}, 404, "no model is called so"),
        ("/models/vectors/predict", {"inputs": "a"}, 422, "ask /embed"),
        ("/embed", {"inputs": "a"}, 422, "ask /predict"),
        ("/models/pairs/predict", {"inputs": ["a", "b", "c"]}, 422, "no pair of texts"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_one_line(
    served: Served, path: str, body: object, status: int, said: str
) -> None:
    found, told, _ = served.ask("POST", path, body)
    assert found == status
    assert set(told) == {"error", "error_type"}
    assert re.search(said, told["error"])
    assert "\n" not in told["error"]


def test_errors_of_the_routes_of_openai_have_its_shape(served: Served) -> None:
    status, told, _ = served.ask("POST", "/v1/embeddings", {"input": "a", "model": "otro"})
    assert (status, told["error"]["code"]) == (404, 404)
    assert "no model is called so" in told["error"]["message"]


def test_nothing_that_is_sent_makes_it_fail(served: Served) -> None:
    randomness = random.Random(0)
    values: list[Any] = ["", "x", None, 3, True, [], {}, [[]], ["a"], {"inputs": "a"}, "\x00", 1e308]
    for _ in range(300):
        name = randomness.choice(["inputs", "input", "model", "parameters", "normalize"])
        body: Any = {"inputs": randomness.choice(values), name: randomness.choice(values)}
        raw = json.dumps(body).encode()
        if randomness.random() < 0.3:
            place = randomness.randrange(len(raw))
            raw = raw[:place] + bytes([randomness.randrange(256)]) + raw[place + 1 :]
        path = randomness.choice(["/", "/predict", "/embed", "/v1/embeddings", "/models/pairs", "/models/x"])
        status, told, _ = served.ask("POST", path, raw)
        assert status < 500, (path, raw, told)


def test_a_key_is_asked_for(bundles: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    for served in serve({"polarity": bundles["polarity"]}, ServiceOptions(api_key=KEY)):
        assert served.ask("POST", "/predict", {"inputs": "a"})[0] == 401
        assert served.ask("POST", "/predict", {"inputs": "a"}, Authorization="Bearer otra")[0] == 401
        assert served.ask("POST", "/predict", {"inputs": "a"}, Authorization=f"Bearer {KEY}")[0] == 200
        assert served.ask("GET", "/metrics")[0] == 401
        assert served.ask("GET", "/health")[:2] == (200, "ok")
        assert served.ask("GET", "/ready")[:2] == (200, "ready")
    assert KEY not in "".join(capfd.readouterr())


def test_a_full_queue_says_when_to_come_again(bundles: dict[str, Path]) -> None:
    for served in serve({"polarity": bundles["polarity"]}, ServiceOptions(max_queue=1)):
        status, told, headers = served.ask("POST", "/predict", {"inputs": ["a", "b"]})
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "waiting" in told["error"]
        assert served.post("/predict", {"inputs": "a"})


def test_what_was_done_is_told(served: Served) -> None:
    served.post("/predict", {"inputs": TEXTS})
    status, told, headers = served.ask("GET", "/metrics")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    lines = dict(line.rsplit(" ", 1) for line in told.splitlines() if not line.startswith("#"))
    assert float(lines['twil_texts_total{model="polarity"}']) >= len(TEXTS)
    assert float(lines['twil_requests_total{path="/predict",status="200"}']) >= 1
    assert float(lines["twil_request_seconds_count"]) == float(
        lines['twil_request_seconds_bucket{le="+Inf"}']
    )
    assert lines['twil_queued_texts{model="polarity"}'] == "0"


def test_routes_are_described_and_a_page_loads_nothing_from_elsewhere(served: Served) -> None:
    told = served.ask("GET", "/openapi.json")[1]
    served_paths = {route.path for route in served.app.routes}
    assert set(told["paths"]) <= served_paths
    for path, kind in {"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css"}.items():
        status, said, headers = served.ask("GET", path)
        assert (status, headers["content-type"].partition(";")[0]) == (200, kind)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "http" not in said
    assert served.ask("GET", "/page.html/../app.py")[0] == 404


class TestBatcher:
    def compute(self, bundle: Path, work: Any, **options: Any) -> Any:
        async def run() -> Any:
            batcher = Batcher(open_engine(str(bundle), None), **options)
            try:
                return await work(batcher)
            finally:
                await batcher.close()

        return asyncio.run(run())

    def test_texts_of_a_moment_become_batches(self, bundles: dict[str, Path]) -> None:
        async def work(batcher: Batcher) -> int:
            await asyncio.gather(*(batcher.submit([text]) for text in ["a", "b", "c", "d"] * 8))
            return batcher.load.batches

        assert self.compute(bundles["polarity"], work, max_wait=0.05) < 8

    def test_a_single_client_waits_for_nobody(
        self, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits, sleep = [], asyncio.sleep

        async def watched(seconds: float) -> None:
            waits.append(seconds)
            await sleep(0)

        async def work(batcher: Batcher) -> int:
            for text in "abc":
                await batcher.submit([text])
            alone = waits.count(0.05)
            await asyncio.gather(*(batcher.submit([text]) for text in "defg"))
            await batcher.submit(["h"])
            assert waits.count(0.05) == alone + 1
            return alone

        monkeypatch.setattr(asyncio, "sleep", watched)
        assert self.compute(bundles["polarity"], work, max_wait=0.05) == 1

    def test_few_texts_are_shared_among_all_threads(self, bundles: dict[str, Path]) -> None:
        async def work(batcher: Batcher) -> bool:
            await asyncio.gather(*(batcher.submit([text]) for text in "abcdefgh"))
            return batcher.load.batches >= batcher.engine.workers

        assert self.compute(bundles["polarity"], work, max_wait=0.05)

    def test_who_goes_away_frees_places(self, bundles: dict[str, Path]) -> None:
        async def work(batcher: Batcher) -> int:
            gone = asyncio.create_task(batcher.submit(["a"] * 3))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            await batcher.submit(["b"])
            return batcher.load.texts

        assert self.compute(bundles["polarity"], work, max_wait=0.05) == 1

    def test_closing_answers_who_has_asked(
        self, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def work(batcher: Batcher) -> list[Any]:
            encode = batcher.engine.encode

            def slowly(texts: Any) -> Any:
                time.sleep(0.1)
                return encode(texts)

            monkeypatch.setattr(batcher.engine, "encode", slowly)
            asked = asyncio.create_task(batcher.submit(["a"]))
            await asyncio.sleep(0.02)  # taken, and not computed yet
            await batcher.close()
            return await asyncio.wait_for(asked, 5)

        assert len(self.compute(bundles["polarity"], work)) == 1

    def test_more_texts_than_the_queue_has_room_for_are_refused(self, bundles: dict[str, Path]) -> None:
        async def work(batcher: Batcher) -> None:
            with pytest.raises(QueueFullError):
                await batcher.submit(["a", "b", "c"])

        self.compute(bundles["polarity"], work, max_queue=2)

    def test_a_graph_that_fails_is_told_to_all_who_wait(
        self, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def work(batcher: Batcher) -> list[Any]:
            def fail(*_: Any) -> Any:
                raise ModelError("it fails")

            monkeypatch.setattr(batcher.engine, "_run", fail)
            return await asyncio.gather(batcher.submit(["a"]), batcher.submit(["b"]), return_exceptions=True)

        told = self.compute(bundles["polarity"], work)
        assert [str(error) for error in told] == ["it fails"] * 2


class TestProcess:
    def wait_for_url(self, process: TwilProcess) -> int:
        process.wait_for("at http://127.0.0.1:")
        return int(process.said.partition("at http://127.0.0.1:")[2].split()[0])

    def test_signals_open_models_anew_and_end_it(self, bundles: dict[str, Path]) -> None:
        process = TwilProcess("serve", bundles["polarity"], "--port", 0)
        served = Served(self.wait_for_url(process), None)
        before = served.post("/predict", {"inputs": TEXTS})
        process.send_signal(signal.SIGHUP)
        process.wait_for("opened anew: polarity")
        assert served.post("/predict", {"inputs": TEXTS}) == before
        process.send_signal(signal.SIGTERM)
        assert process.wait() in (0, -signal.SIGTERM, 143)
        assert "stopped" in process.said

    def test_a_port_that_is_taken_is_told_before_a_model_is_opened(self, bundles: dict[str, Path]) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            process = TwilProcess("serve", bundles["polarity"], "--port", taken.getsockname()[1])
            assert process.wait() == 1
        assert process.said.count("\n") == 1
        assert "choose another --host or --port" in process.said

    def test_a_model_that_is_not_there_is_one_line(self, tmp_path: Path) -> None:
        process = TwilProcess("serve", tmp_path / "absent", "--port", 0)
        assert process.wait() == 1
        assert "twil: error: there is no bundle folder" in process.said


@pytest.fixture(scope="module")
def filling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Path]]:
    folder = tmp_path_factory.mktemp("masks")
    tokenizer = make_tokenizer(40)
    encoder = EncoderConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        n_layers=1,
        n_heads=2,
        head_size=8,
        max_positions=40,
        initializer_range=0.3,
    )
    save(folder / "model", TWilBERT(ModelConfig(encoder=encoder, mlm=True)), tokenizer, {})
    export_onnx(folder / "model", folder / "bundle", head="fill-mask")
    told: list[RequestLog] = []
    for served in serve({"masks": folder / "bundle"}, ServiceOptions(log=told.append)):
        served.log = told
        yield served, folder / "bundle"


def test_masks_are_filled_as_from_the_bundle(filling: tuple[Served, Path]) -> None:
    served, bundle = filling
    texts = ["hoy es un [MASK] día", "[MASK] me [MASK] el mar"]
    with MaskFiller(bundle) as filler:
        expected = filler.fill(texts, top_k=3)
        fills = [[[fill.token for fill in mask] for mask in each.masks] for each in expected]
    one, several = served.post("/fill-mask", {"inputs": texts, "top_k": 3})
    assert [each["token_str"] for each in one] == fills[0][0]
    assert [[each["token_str"] for each in mask] for mask in several] == fills[1]
    assert one[0]["score"] == pytest.approx(expected[0].masks[0][0].probability, abs=1e-5)
    assert one[0]["sequence"] == expected[0].masks[0][0].text
    assert isinstance(one[0]["token"], int)
    assert served.post("/fill-mask", {"inputs": texts[0], "top_k": 3}) == one
    hub = {"inputs": texts[0], "parameters": {"top_k": 3}}
    assert served.post("/models/masks", hub) == one
    assert len(served.post("/fill-mask", {"inputs": texts[0]})) == 5


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/fill-mask", {"inputs": "sin máscara"}, "has no [MASK]"),
        ("/fill-mask", {"inputs": "[MASK]", "top_k": 0}, "top_k is a whole number from 1"),
        ("/fill-mask", {"inputs": "[MASK]", "top_k": True}, "top_k is a whole number from 1"),
        ("/fill-mask", {"inputs": "[MASK]", "top_k": 1024}, "tokens"),
        ("/", {"inputs": "[MASK]", "parameters": {"top_k": "x"}}, "top_k is a whole number from 1"),
        ("/predict", {"inputs": "hola"}, "gives no labels: ask /fill-mask"),
        ("/embed", {"inputs": "hola"}, "gives no vectors: ask /fill-mask"),
    ],
)
def test_what_a_filler_is_not_asked_is_refused(
    filling: tuple[Served, Path], path: str, body: object, said: str
) -> None:
    status, told, _ = filling[0].ask("POST", path, body)
    assert (status, said in told["error"]) == (422, True), told


def test_a_log_tells_of_requests_and_never_of_texts(filling: tuple[Served, Path]) -> None:
    served, _ = filling
    served.log.clear()
    served.post("/fill-mask", {"inputs": ["un secreto [MASK]", "otro [MASK]"]})
    served.ask("GET", "/../../etc/passwd")
    while len(served.log) < 2:  # a line is written once its answer is sent
        time.sleep(0.005)
    first, second = served.log
    assert (first["route"], first["status"], first["texts"]) == ("/fill-mask", 200, 2)
    assert first["ms"] > 0
    assert datetime.fromisoformat(first["time"]).tzinfo is not None
    assert (second["route"], second["status"], second["texts"]) == ("other", 404, 0)
    assert "secreto" not in json.dumps(served.log)


def test_programs_of_the_guide_run_against_a_service(served: Served) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
    programs = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert len(programs) == 2
    for program in programs:
        done = subprocess.run(
            [sys.executable, "-c", program.replace("8080", str(served.port))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert re.search("NEG|NEU|POS", done.stdout)


def test_of_models_that_are_opened_anew_the_old_ones_are_let_go_at_once(bundles: dict[str, Path]) -> None:
    async def reopen() -> bool:
        service = Service({"polarity": str(bundles["polarity"])}, ServiceOptions())
        await service.open()
        old = weakref.ref(service.find(None).engine)
        await service.open()
        gone = old() is None
        await service.close()
        return gone

    gc.disable()  # as where nothing happens to look for cycles
    try:
        assert asyncio.run(reopen())
    finally:
        gc.enable()
