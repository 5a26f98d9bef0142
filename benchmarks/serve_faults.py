"""Put a service through what no client should send, then through a long mixed load.

    python benchmarks/serve_faults.py --texts FILE [--requests 10000] [--minutes 30]

`twil serve` runs as a process of its own with a key and a log. First come requests that are damaged in one
of many ways: random bytes, broken JSON, wrong types, deep nesting, bombs of headers, two lengths at once,
junk in chunks, paths that climb, methods that are none, clients that leave, clients that send a few bytes
at a time. None may be answered with an error of the server, with a path of the machine or with the key, and
after each hundred a right request must get its right answer. Then right and wrong requests go on side by
side for some minutes, while SIGHUP opens the model anew each minute; every right answer is compared with
what a predictor says, and memory and open files are sampled.
"""

from __future__ import annotations

import argparse
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
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labelling_peers import read_rows
from large_file import draw
from training_runs import table

import twil
from twil.core.machine import available_cpus, cpu_name

KEY = "a-key-that-nobody-may-see"
GOOD = {"inputs": "me encanta este barrio"}
PATIENCE = 5.0
PAGE = """# A service under fault

Written by `benchmarks/serve_faults.py`, which says what is counted: twil {twil}, {machine}, {cpus} CPUs;
`sentiment`, 8 clients.

{table}

{violations} violations. The log has no traceback and no key: {clean}.

| {minutes:.0f} minutes of mixed load | |
| --- | --- |
| right answers, compared to 1e-5 | {right:,} |
| wrong answers, errors of the server | {wrong:,} |
| refused, as they should be | {refused:,} |
| models opened anew | {opened} |
| resident memory after a tenth of the time, at its end | {before:,} MiB, {after:,} MiB |
| open files then | {files_before}, {files_after} |

![Resident memory of the service over time](serve_faults.svg)
"""


class Service:
    """`twil serve` as a process, and what it writes."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self._log = log.open("wb")
        command = [sys.executable, "-m", "twil", "serve", "sentiment", "--port", str(self.port)]
        command += ["--api-key", KEY, "--log-requests", "json"]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        while not self.answers():
            assert self.process.poll() is None, log.read_text(encoding="utf-8")
            time.sleep(0.1)

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/ready")[0] == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        raw = None if body is None else json.dumps(body).encode()
        connection.request(method, path, raw, {"Authorization": f"Bearer {KEY}"})
        response = connection.getresponse()
        said = response.read()
        connection.close()
        return response.status, json.loads(said) if said[:1] in b"[{" else said

    def figures(self) -> tuple[float, int]:
        """Give the resident memory in MiB, and the open files."""
        folder = Path("/proc", str(self.process.pid))
        found = re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text())
        assert found
        return int(found[1]) / 1024, len(list((folder / "fd").iterdir()))

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 143  # as a process that SIGTERM ends
        self._log.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def post(
    body: bytes, *more: str, path: str = "/predict", length: int | str | None = None, key: str = KEY
) -> bytes:
    size = len(body) if length is None else length
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {key}",
        f"Content-Length: {size}",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def any_value(rng: random.Random, depth: int = 0) -> object:
    """Draw a value of JSON's types, of any shape."""
    kinds: list[Callable[[], object]] = [
        lambda: None,
        lambda: rng.random() < 0.5,
        lambda: rng.randint(-(10**30), 10**30),
        lambda: rng.uniform(-1e300, 1e300),
        lambda: "".join(
            map(
                chr,
                rng.choices(
                    (*range(32, 127), 0, 9, 10, 0x202E, 0x1F621, 0xD800, 0xFFFF), k=rng.randint(0, 40)
                ),
            )
        ),
    ]
    if depth < 3:
        kinds += [
            lambda: [any_value(rng, depth + 1) for _ in range(rng.randint(0, 4))],
            lambda: {f"k{rng.randint(0, 9)}": any_value(rng, depth + 1) for _ in range(rng.randint(0, 4))},
        ]
    return rng.choice(kinds)()


def mutated(rng: random.Random) -> bytes:
    body = bytearray(json.dumps({**GOOD, "model": "sentiment"}).encode())
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(body))
        body[place : place + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 3))
    return bytes(body)


def odd_path(rng: random.Random) -> str:
    parts = [
        "..",
        "%2e%2e",
        "models",
        "etc",
        "passwd",
        "page.js",
        "sentiment",
        "%00",
        "~",
        "predict",
        "\\",
        "",
        "C:",
    ]
    return "/" + "/".join(rng.choices(parts, k=rng.randint(1, 6)))


FAULTS: dict[str, Callable[[random.Random], bytes]] = {
    "random bytes": lambda rng: rng.randbytes(rng.randint(1, 2000)) + b"\r\n\r\n",
    "broken JSON": lambda rng: post(mutated(rng)),
    "any JSON": lambda rng: post(
        json.dumps(any_value(rng)).encode(), path=rng.choice(["/", "/predict", "/embed", "/fill-mask"])
    ),
    "any inputs": lambda rng: post(
        json.dumps(
            {
                "inputs": any_value(rng),
                "parameters": any_value(rng),
                "model": rng.choice([None, any_value(rng)]),
            }
        ).encode(),
        path=rng.choice(["/", "/predict", "/v1/embeddings", "/models/sentiment"]),
    ),
    "deep JSON": lambda rng: post(b'{"inputs": ' + b"[" * rng.randint(10, 200_000)),
    "long numbers": lambda rng: post(b'{"inputs": ' + b"9" * rng.randint(10, 100_000) + b"}"),
    "many headers": lambda rng: post(
        b"{}", *(f"X-{number}: {number}" for number in range(rng.randint(100, 5000)))
    ),
    "a long header": lambda rng: post(b"{}", "X: " + "a" * rng.randint(10_000, 500_000)),
    "two lengths": lambda _: post(json.dumps(GOOD).encode(), "Transfer-Encoding: chunked"),
    "two Content-Lengths": lambda rng: post(
        json.dumps(GOOD).encode(), f"Content-Length: {rng.randint(0, 99)}"
    ),
    "junk in chunks": lambda rng: (
        (
            f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
        ).encode()
        + rng.randbytes(rng.randint(1, 300))
    ),
    "a wrong length": lambda rng: post(
        json.dumps(GOOD).encode(), length=rng.choice([-1, "x", 10**18, "1e3", 0, 3, "+5", ""])
    ),
    "an odd path": lambda rng: post(json.dumps(GOOD).encode(), path=odd_path(rng)),
    "an odd method": lambda rng: post(b"{}").replace(
        b"POST", rng.choice([b"GET", b"PUT", b"TRACE", b"CONNECT", b"\xff", b"PRI"])
    ),
    "a wrong key": lambda rng: post(
        json.dumps(GOOD).encode(), key="".join(rng.choices("abc \xe9", k=rng.randint(0, 90)))
    ),
    "a body too long": lambda _: post(b" " * (1 << 21)),
    "a client that leaves": lambda _: post(json.dumps({"inputs": ["hola"] * 900}).encode()),
    "a slow client": lambda _: post(json.dumps(GOOD).encode()),
}


def send(port: int, name: str, raw: bytes) -> bytes:
    """Send one, as its kind of client does, and give what is answered until the connection is quiet."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as line:
        try:
            if name == "a slow client":
                for place in range(0, len(raw), 8):
                    line.sendall(raw[place : place + 8])
                    time.sleep(0.01)
            else:
                line.sendall(raw)
            if name == "a client that leaves":
                return b""
            line.settimeout(0.5 if name != "a slow client" else PATIENCE)
            while part := line.recv(1 << 16):
                said += part
                if b"\r\n\r\n" in said:
                    line.settimeout(0.02)
            return said
        except (TimeoutError, ConnectionError):
            return said


def wrong_with(said: bytes) -> str | None:
    """Say what no answer may be; None of one that may."""
    statuses = [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3})", said)]
    if any(status >= 500 and status != 503 for status in statuses):
        return f"status {statuses}"
    for secret in (KEY.encode(), b"Traceback", str(Path.home()).encode() + b"/", b"site-packages"):
        if secret in said:
            return f"the answer holds {secret!r}"
    return None


def malformed(service: Service, count: int, expected: object) -> tuple[Counter[str], list[str]]:
    tried: Counter[str] = Counter()
    found: list[str] = []

    def one(number: int) -> None:
        rng = random.Random(number)
        name = rng.choice(list(FAULTS))
        if name in ("a slow client", "a body too long") and number % 5:
            name = "any inputs"
        wrong = wrong_with(send(service.port, name, FAULTS[name](rng)))
        tried[name] += 1
        if wrong:
            found.append(f"{name}, {number}: {wrong}")
        if number % 100 == 0 and service.ask("POST", "/predict", GOOD) != (200, expected):
            found.append(f"after {number} a right request got another answer")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(count)))
    return tried, found


def mixed_load(service: Service, texts: list[str], minutes: float) -> dict[str, object]:
    predictor = twil.Predictor("sentiment", threads=1)
    expected = {text: told.probabilities for text, told in zip(texts, predictor(texts), strict=True)}
    end, begin = time.monotonic() + 60 * minutes, time.monotonic()
    told: Counter[str] = Counter()
    wrong: list[str] = []

    def right(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < end:
            chosen = rng.choices(texts, k=rng.choice([1, 1, 1, 8]))
            status, rows = service.ask("POST", "/predict", {"inputs": chosen})
            if status == 503:
                told["refused"] += 1
                continue
            good = status == 200 and all(
                abs(expected[text][each["label"]] - each["score"]) < 1e-5
                for text, row in zip(chosen, rows, strict=True)  # type: ignore[arg-type,call-overload]
                for each in row
            )
            told["right" if good else "wrong"] += 1
            if not good:
                wrong.append(f"{status} {rows!r:.200}")

    def spoil(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < end:
            name = rng.choice(list(FAULTS))
            fault = wrong_with(send(service.port, name, FAULTS[name](rng)))
            told["wrong" if fault else "refused"] += 1
            if fault:
                wrong.append(f"{name}: {fault}")
            time.sleep(0.02)

    threads = [threading.Thread(target=right, args=(seed,)) for seed in range(6)]
    threads += [threading.Thread(target=spoil, args=(100 + seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    samples: list[tuple[float, float]] = []
    files: list[int] = []
    opened = 0
    while time.monotonic() < end:
        memory, open_files = service.figures()
        samples.append((time.monotonic() - begin, memory))
        files.append(open_files)
        if (time.monotonic() - begin) // 60 > opened:
            service.process.send_signal(signal.SIGHUP)
            opened += 1
        time.sleep(2)
    for thread in threads:
        thread.join()
    early = len(samples) // 10
    return {
        "right": told["right"],
        "wrong": told["wrong"],
        "refused": told["refused"],
        "opened": opened,
        "before": round(samples[early][1]),
        "after": round(samples[-1][1]),
        "files_before": files[early],
        "files_after": files[-1],
        "samples": samples,
        "said": wrong,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--work", type=Path, default=Path("/tmp"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "serve_faults")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    log = options.work / "serve_faults.log"
    service = Service(log)
    expected = service.ask("POST", "/predict", GOOD)[1]
    tried, found = malformed(service, options.requests, expected)
    texts = list(dict.fromkeys(text for _, text in read_rows(options.texts)))[:500]
    load = mixed_load(service, texts, options.minutes)
    service.stop()
    written = log.read_text(errors="replace")
    clean = "Traceback" not in written and KEY not in written
    rows = [
        [name, f"{tried[name]:,}", str(sum(each.startswith(f"{name},") for each in found))] for name in FAULTS
    ]
    rows.append(["all", f"{sum(tried.values()):,}", str(len(found))])
    draw(load.pop("samples"), options.output.with_suffix(".svg"))  # type: ignore[arg-type]
    for line in [*found[:20], *load.pop("said")[:20]]:  # type: ignore[index]
        print(line)
    page = PAGE.format(
        twil=twil.__version__,
        machine=cpu_name(),
        cpus=available_cpus(),
        table=table(["what is sent", "requests", "violations"], rows),
        violations=len(found) or "No",
        clean="yes" if clean else "no",
        minutes=options.minutes,
        **load,
    )
    options.output.with_suffix(".md").write_text(page, encoding="utf-8")
    print(page)
    sys.exit(bool(found) or not clean or bool(load["wrong"]))


if __name__ == "__main__":
    main()
