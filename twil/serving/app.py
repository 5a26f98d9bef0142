"""The routes of the service, as an application of Starlette."""

from __future__ import annotations

import asyncio
import base64
import functools
import gc
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any, TypedDict, TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twil.bundle.bundle import open_bundle
from twil.bundle.cache import bundle_of
from twil.core.errors import ConfigError, DataError, TwilError
from twil.core.version import __version__
from twil.inference.embedder import Embedder
from twil.inference.engine import Engine, EngineOptions
from twil.inference.fill_mask import MaskFiller
from twil.inference.predictor import Predictor
from twil.inference.texts import Text
from twil.serving.batching import MAX_QUEUE, MAX_WAIT, Answer, Batcher, QueueFullError
from twil.text.tokenizer import MASK, half_character

MAX_BODY = 1 << 20
"""Bytes of a request."""
MAX_TEXTS = 1024
"""Texts of a request."""
MAX_FILLED = 16 << 20
"""Characters of all texts that masks are filled in."""
BODY_SECONDS = 10.0
"""Within which the body of a request must have come."""
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OPENAI = "/v1/"
"""Where errors have the shape that clients of OpenAI show."""
_OPEN = frozenset({"/health", "/ready"})
"""Paths that need no key."""
_COMPUTED = "twil.texts"  # in the scope of a request
_PAGE_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"

_Result = TypeVar("_Result")

_LOG = logging.getLogger(__name__)


class RefusedError(Exception):
    """A request that is answered with an error.

    Args:
        status: Of HTTP.
        said: What is wrong, and how to mend it.
    """

    def __init__(self, status: int, said: str) -> None:
        self.status = status
        super().__init__(said)


class RequestLog(TypedDict):
    """What is logged of a request.

    Attributes:
        time: When it came, in UTC.
        route: The route, such as ``/models/{model}/predict``, or ``other``.
        status: Of HTTP.
        ms: Milliseconds until it was answered.
        texts: How many texts were computed.
    """

    time: str
    route: str
    status: int
    ms: float
    texts: int


@dataclass(frozen=True)
class ServiceOptions:
    """What a service is asked for.

    Attributes:
        max_wait: Seconds that a text waits for others while nothing is computed.
        max_queue: Texts that wait at a time, for each model.
        api_key: What clients must bring; nobody must where it is empty.
        engine: How bundles are run.
        log: Is told of each request when it is done: never of texts, nor of the key.
    """

    max_wait: float = MAX_WAIT
    max_queue: int = MAX_QUEUE
    api_key: str = ""
    engine: EngineOptions | None = None
    log: Callable[[RequestLog], None] | None = None


class Service:
    """The models that are served, by name, the first of them where a request names none."""

    def __init__(self, models: Mapping[str, str], options: ServiceOptions) -> None:
        if not models:
            raise ConfigError("there is nothing to serve: name a model")
        self.models, self.options = dict(models), options
        self.batchers: dict[str, Batcher] = {}
        self.requests: dict[tuple[str, int], int] = {}
        self.latency = [0] * (len(_BUCKETS) + 1)
        self.seconds = 0.0

    async def open(self) -> None:
        """Open all models, or others in their place: who is being answered is answered by the old ones.

        Raises:
            ModelError: A model cannot be opened; those that are served stay.
        """
        loop = asyncio.get_running_loop()
        engines = {
            name: await loop.run_in_executor(None, open_engine, model, self.options.engine)
            for name, model in self.models.items()
        }
        before, options = self.batchers, self.options
        self.batchers = {
            name: Batcher(engine, max_wait=options.max_wait, max_queue=options.max_queue)
            for name, engine in engines.items()
        }
        await _close(before)
        await asyncio.sleep(0)  # in which their tasks end
        gc.collect()  # a graph is large, and nobody knows when its last reference would be looked for

    async def close(self) -> None:
        """Finish what is under way."""
        await _close(self.batchers)

    def find(self, name: object) -> Batcher:
        """Give a model by its name; the first where none is named."""
        if name is None and self.batchers:
            return next(iter(self.batchers.values()))
        if not isinstance(name, str) or name not in self.batchers:
            raise RefusedError(404, f"no model is called so: there are {', '.join(self.batchers)}")
        return self.batchers[name]

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count a request for the metrics."""
        self.requests[path, status] = self.requests.get((path, status), 0) + 1
        self.latency[sum(seconds > bound for bound in _BUCKETS)] += 1
        self.seconds += seconds


async def _close(batchers: dict[str, Batcher]) -> None:
    """Let models go once all who ask them are answered."""
    while batchers:
        await batchers.pop(next(iter(batchers))).close()


def open_engine(model: str, options: EngineOptions | None) -> Engine:
    """Open what answers for a model, and compute a first batch with it.

    Raises:
        ModelError: There is no such model.
    """
    bundle = bundle_of(model, None)
    kind = open_bundle(bundle).manifest.kind
    given: EngineOptions = {"side_by_side": True, **(options or {})}
    engine: Engine
    if kind == "fill-mask":
        # A batch at a time: each holds a number for every token of the vocabulary.
        given["side_by_side"] = False
        engine = MaskFiller(bundle, **given)
    else:
        engine = Predictor(bundle, **given) if kind == "classifier" else Embedder(bundle, **given)
    engine.warm_up()
    return engine


def make_app(models: Mapping[str, str], options: ServiceOptions | None = None) -> Starlette:
    """Make the application.

    Args:
        models: What is served by which name: bundles, model folders, shipped or hub names.
        options: See `ServiceOptions`.
    """
    service = Service(models, options or ServiceOptions())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await service.open()
        try:
            yield
        finally:
            await service.close()

    routes = [
        Route("/", page, methods=["GET"]),
        Route("/page.js", page, methods=["GET"]),
        Route("/page.css", page, methods=["GET"]),
        Route("/", answer_as_hub, methods=["POST"]),
        Route("/predict", predict, methods=["POST"]),
        Route("/embed", embed, methods=["POST"]),
        Route("/fill-mask", fill_mask, methods=["POST"]),
        Route("/v1/embeddings", embed_as_openai, methods=["POST"]),
        Route("/models", list_models, methods=["GET"]),
        Route("/models/{model}", answer_as_hub, methods=["POST"]),
        Route("/models/{model}/predict", predict, methods=["POST"]),
        Route("/models/{model}/embed", embed, methods=["POST"]),
        Route("/models/{model}/fill-mask", fill_mask, methods=["POST"]),
        Route("/health", health, methods=["GET"]),
        Route("/ready", ready, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
        Route("/openapi.json", openapi, methods=["GET"]),
    ]
    handled = (RefusedError, QueueFullError, ClientDisconnect, TwilError)
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(_Guard, service=service)],
        exception_handlers=dict.fromkeys(handled, _refuse),
    )
    app.state.service = service
    return app


class _Guard:
    """Asks for the key, and counts requests by path, status and time."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._may_pass(scope):
                await self._app(scope, receive, sent)
            else:
                said = "bring the key of this service: Authorization: Bearer KEY"
                await _refusal(scope["path"], 401, said)(scope, receive, sent)
        finally:
            route = scope.get("route")
            path = route.path if route is not None else "other"
            seconds = time.perf_counter() - begin
            self._service.count(path, status, seconds)
            if self._service.options.log:
                at = datetime.now(UTC) - timedelta(seconds=seconds)
                self._service.options.log(
                    {
                        "time": at.isoformat(timespec="milliseconds"),
                        "route": path,
                        "status": status,
                        "ms": round(1000 * seconds, 2),
                        "texts": scope.get(_COMPUTED, 0),
                    }
                )

    def _may_pass(self, scope: Scope) -> bool:
        key = self._service.options.api_key
        given = dict(scope["headers"]).get(b"authorization", b"")
        return not key or scope["path"] in _OPEN or hmac.compare_digest(given, f"Bearer {key}".encode())


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer with what is wrong, in one line."""
    path = request.url.path
    if isinstance(error, RefusedError):
        return _refusal(path, error.status, str(error))
    if isinstance(error, QueueFullError):
        return _refusal(path, 503, str(error), {"Retry-After": "1"})
    if isinstance(error, ClientDisconnect):
        return _refusal(path, 499, "the client went away")
    _LOG.error("%s", error)  # which may name folders of this machine
    return _refusal(path, 500, "the model failed: see the log of the service")


async def _compute(request: Request, batcher: Batcher, texts: Sequence[Text]) -> list[Answer]:
    """Compute texts, unless the client goes away."""
    request.scope[_COMPUTED] = len(texts)
    return await _unless_gone(request, batcher.submit(texts))


async def _unless_gone(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    computed = asyncio.create_task(work)
    gone = asyncio.create_task(_wait_until_gone(request))
    await asyncio.wait({computed, gone}, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not computed.done():
        computed.cancel()
        raise ClientDisconnect
    return computed.result()


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusal(path: str, status: int, said: str, headers: Mapping[str, str] | None = None) -> Response:
    told: object = {"message": said, "code": status} if path.startswith(_OPENAI) else said
    return JSONResponse({"error": told, "error_type": status}, status, headers)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def predict(request: Request) -> Response:
    """Give labels and probabilities as text-embeddings-inference does: a list for each text."""
    body = await _read(request)
    batcher = _classifier(request, body)
    texts, single = _texts(body.get("inputs"), pair=batcher.engine.pair)
    told = _ranked(batcher.engine, await _compute(request, batcher, texts))
    return JSONResponse(told[0] if single else told)


async def embed(request: Request) -> Response:
    """Give a vector for each text."""
    body = await _read(request)
    batcher = _encoder(request, body)
    texts, _ = _texts(body.get("inputs"), pair=False)
    answers = await _compute(request, batcher, texts)
    return JSONResponse(_vectors(batcher.engine, answers, normalize=body.get("normalize")).tolist())


async def answer_as_hub(request: Request) -> Response:
    """Give what the inference clients of the Hugging Face hub expect of a model's own address."""
    body = await _read(request)
    batcher = _service(request).find(request.path_params.get("model"))
    if isinstance(batcher.engine, MaskFiller):
        return await _fill(request, batcher, batcher.engine, body, _parameter(body, "top_k"))
    texts, _ = _texts(body.get("inputs"), pair=batcher.engine.pair)
    answers = await _compute(request, batcher, texts)
    if isinstance(batcher.engine, Embedder):
        return JSONResponse(_vectors(batcher.engine, answers).tolist())
    top = _parameter(body, "top_k")
    return JSONResponse([each[:top] for each in _ranked(batcher.engine, answers)])


async def fill_mask(request: Request) -> Response:
    """Give the likeliest tokens for each mask of a text."""
    body = await _read(request)
    batcher = _named(request, body)
    engine = batcher.engine
    if not isinstance(engine, MaskFiller):
        raise RefusedError(422, f"this model fills no masks: ask {_route(engine)}")
    return await _fill(request, batcher, engine, body, _whole_number(body.get("top_k"), "top_k"))


async def _fill(
    request: Request, batcher: Batcher, engine: MaskFiller, body: Mapping[str, Any], top: int | None
) -> Response:
    """Answer as the hub does: of a mask its tokens, of several a list for each, of texts a list."""
    given, single = _texts(body.get("inputs"), pair=False)
    texts, top = list(map(str, given)), 5 if top is None else top
    if sum(len(text) * max(map(text.count, (MASK, engine.mask))) for text in texts) * top > MAX_FILLED:
        said = f"the texts filled in have more than {MAX_FILLED:,} characters: send less, or a smaller top_k"
        raise RefusedError(413, said)
    request.scope[_COMPUTED] = len(texts)
    try:
        filled = await _unless_gone(
            request, batcher.call(functools.partial(engine.fill, texts, top_k=top), len(texts))
        )
    except (ConfigError, DataError) as error:
        raise RefusedError(422, str(error)) from None
    told = []
    for each in filled:
        masks = [
            [
                {
                    "score": fill.probability,
                    "token": engine.token_id(fill.token),
                    "token_str": fill.token,
                    "sequence": fill.text,
                }
                for fill in mask
            ]
            for mask in each.masks
        ]
        told.append(masks[0] if len(masks) == 1 else masks)
    return JSONResponse(told[0] if single else told)


def _parameter(body: Mapping[str, Any], name: str) -> int | None:
    """Read a number from the parameters of a request."""
    given = body.get("parameters")
    return _whole_number(given.get(name), name) if isinstance(given, dict) else None


def _whole_number(given: object, name: str) -> int | None:
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or not 0 < given <= MAX_TEXTS:
        raise RefusedError(422, f"{name} is a whole number from 1 to {MAX_TEXTS:,}")
    return given


async def embed_as_openai(request: Request) -> Response:
    """Give vectors as OpenAI's service does."""
    body = await _read(request)
    batcher = _encoder(request, body)
    texts, _ = _texts(body.get("input"), pair=False, name="input")
    answers = await _compute(request, batcher, texts)
    vectors = _vectors(batcher.engine, answers)
    coded = body.get("encoding_format") == "base64"
    rows = [
        base64.b64encode(vector.astype("<f4").tobytes()).decode() if coded else vector.tolist()
        for vector in vectors
    ]
    tokens = sum(each.tokens for each in answers)
    return JSONResponse(
        {
            "object": "list",
            "model": body.get("model"),
            "data": [
                {"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(rows)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


async def list_models(request: Request) -> Response:
    """Tell what is served; the first is that of requests that name none."""
    return JSONResponse(
        {
            "models": [
                {
                    "name": name,
                    "kind": batcher.engine.bundle.manifest.kind,
                    "labels": list(batcher.engine.labels) if isinstance(batcher.engine, Predictor) else [],
                    "precision": batcher.engine.bundle.manifest.precision,
                    "max_length": batcher.engine.bundle.manifest.max_length,
                    "provider": batcher.engine.session.provider,
                }
                for name, batcher in _service(request).batchers.items()
            ],
            "version": __version__,
        }
    )


async def health(request: Request) -> Response:  # noqa: ARG001
    """Say that the process answers."""
    return PlainTextResponse("ok")


async def ready(request: Request) -> Response:
    """Say whether texts can be answered now."""
    there = bool(_service(request).batchers)
    return PlainTextResponse("ready" if there else "not yet", 200 if there else 503)


async def metrics(request: Request) -> Response:
    """Tell what was done, in the text format of Prometheus."""
    service = _service(request)
    lines = ["# TYPE twil_requests_total counter"]
    lines += [
        f'twil_requests_total{{path="{path}",status="{status}"}} {count}'
        for (path, status), count in sorted(service.requests.items())
    ]
    lines.append("# TYPE twil_request_seconds histogram")
    seen = 0
    for bound, count in zip([*_BUCKETS, "+Inf"], service.latency, strict=True):
        seen += count
        lines.append(f'twil_request_seconds_bucket{{le="{bound}"}} {seen}')
    lines += [f"twil_request_seconds_sum {service.seconds:.6f}", f"twil_request_seconds_count {seen}"]
    batchers = service.batchers.items()
    for name, kind, values in (
        ("texts_total", "counter", {model: each.load.texts for model, each in batchers}),
        ("tokens_total", "counter", {model: each.load.tokens for model, each in batchers}),
        ("batches_total", "counter", {model: each.load.batches for model, each in batchers}),
        ("queued_texts", "gauge", {model: each.queued for model, each in batchers}),
    ):
        lines.append(f"# TYPE twil_{name} {kind}")
        lines += [f'twil_{name}{{model="{model}"}} {value}' for model, value in values.items()]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


async def openapi(request: Request) -> Response:  # noqa: ARG001
    """Describe the routes."""
    return JSONResponse(
        json.loads(_resource("openapi.json")) | {"info": {"title": "twil", "version": __version__}}
    )


async def page(request: Request) -> Response:
    """Give the page on which a text can be tried, and its parts."""
    name = request.url.path.removeprefix("/") or "page.html"
    kinds = {"page.html": "text/html", "page.js": "text/javascript", "page.css": "text/css"}
    headers = {"Content-Security-Policy": _PAGE_POLICY, "X-Content-Type-Options": "nosniff"}
    return Response(_resource(name), media_type=kinds[name], headers=headers)


@functools.cache
def _resource(name: str) -> str:
    """Read a file that lies beside this one."""
    return resources.files("twil.serving").joinpath(name).read_text(encoding="utf-8")


async def _read(request: Request) -> dict[str, Any]:
    """Read the body of a request, as far as it may go."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = b""
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > MAX_BODY:
                    raise RefusedError(413, f"the body has more than {MAX_BODY:,} bytes: send less at a time")
    except TimeoutError:
        raise RefusedError(408, f"the body did not come within {BODY_SECONDS:.0f} s") from None
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise RefusedError(400, 'the body is no JSON: send {"inputs": "a text"}') from None
    if not isinstance(body, dict):
        raise RefusedError(422, 'the body is no object: send {"inputs": "a text"}')
    return body


def _texts(given: object, *, pair: bool, name: str = "inputs") -> tuple[list[Text], bool]:
    """Read the texts of a request; tell whether there was one outside a list."""
    single = isinstance(given, str) or (pair and _is_pair(given))
    items = [given] if single else given
    if not isinstance(items, list):
        raise RefusedError(
            422, f"{name} is a text or a list of texts" + (", or pairs of them" if pair else "")
        )
    if not items:
        raise RefusedError(422, f"{name} holds no text")
    if len(items) > MAX_TEXTS:
        raise RefusedError(413, f"{name} holds {len(items):,} texts: send at most {MAX_TEXTS:,} at a time")
    return [_text(item, f"{name}[{place}]", pair=pair) for place, item in enumerate(items)], single


def _is_pair(given: object) -> bool:
    return isinstance(given, list) and len(given) == 2 and all(isinstance(each, str) for each in given)


def _text(item: object, where: str, *, pair: bool) -> Text:
    if isinstance(item, list) and len(item) == 1:  # as clients write a batch of single texts
        item = item[0]
    if pair:
        if not _is_pair(item):
            raise RefusedError(422, f"{where} is no pair of texts, which the model takes: send [text, reply]")
        assert isinstance(item, list)
        first, second = item
        return _whole(first, where), _whole(second, where)
    if not isinstance(item, str):
        raise RefusedError(422, f"{where} is no text")
    return _whole(item, where)


def _whole(text: str, where: str) -> str:
    if half := half_character(text):
        raise RefusedError(422, f"{where} holds {half}: send whole characters")
    return text


def _classifier(request: Request, body: Mapping[str, Any]) -> Batcher:
    batcher = _named(request, body)
    if not isinstance(batcher.engine, Predictor):
        raise RefusedError(422, f"this model gives no labels: ask {_route(batcher.engine)}")
    return batcher


def _encoder(request: Request, body: Mapping[str, Any]) -> Batcher:
    batcher = _named(request, body)
    if not isinstance(batcher.engine, Embedder):
        raise RefusedError(422, f"this model gives no vectors: ask {_route(batcher.engine)}")
    return batcher


def _route(engine: Engine) -> str:
    if isinstance(engine, MaskFiller):
        return "/fill-mask"
    return "/predict" if isinstance(engine, Predictor) else "/embed"


def _named(request: Request, body: Mapping[str, Any]) -> Batcher:
    return _service(request).find(request.path_params.get("model", body.get("model")))


def _ranked(engine: Engine, answers: Sequence[Answer]) -> list[list[dict[str, Any]]]:
    """Give each text's labels with their probabilities, the likeliest first; of a regression its value."""
    assert isinstance(engine, Predictor)
    decoded = engine.task.decode(np.stack([each.values for each in answers]))
    return [
        [
            {"label": label, "score": score}
            for label, score in sorted(zip(engine.labels, row, strict=True), key=lambda each: -each[1])
        ]
        for row in decoded.scores.tolist()
    ]


def _vectors(engine: Engine, answers: Sequence[Answer], *, normalize: object = None) -> Any:
    assert isinstance(engine, Embedder)
    vectors = np.stack([each.values for each in answers])
    if normalize and not engine.normalize:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, lengths, out=vectors, where=lengths > 0)
    return engine.finished(vectors)
