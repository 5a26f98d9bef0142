"""Models put on a stand-in of the hub: what arrives there, what stays here, and what it refuses."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from bundles import write_bundle
from commands import Run, fails
from huggingface_hub import ModelCard
from tuning import tiny_config

from twil.core.errors import ConfigError, ModelError
from twil.exporting.push import push
from twil.train.finetune import finetune_events

TOKEN = "hf_secreto"


class Hub:
    """A stand-in of the hub's API, which keeps what is committed.

    Attributes:
        status: What it answers everything with, where that is not 200.
        url: Where it is.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.made: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.status = 200
        self.url = ""

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        self.asked.append(path)
        if path == "/api/repos/create":
            self.made = json.loads(body)
            return {"url": f"{self.url}/team/ironia"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            return {
                "files": [
                    {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in files
                ]
            }
        assert path == "/api/models/team/ironia/commit/main", path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return {"commitUrl": f"{self.url}/team/ironia/commit/1", "commitOid": "1", "pullRequestUrl": None}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    told = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            told.tokens.add(self.headers.get("Authorization"))
            given = json.dumps(told.answer(self.path, body) if told.status == 200 else {}).encode()
            self.send_response(told.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(given)))
            self.end_headers()
            self.wfile.write(given)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", told.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield told
    server.shutdown()
    server.server_close()


def test_a_bundle_arrives_with_its_card_as_the_readme(hub: Hub, run: Run, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    card = "---\npipeline_tag: text-classification\ntags:\n- twil\n---\n\n# bundle\n\nNo la uses a ciegas.\n"
    (bundle / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    (bundle / "notas.txt").write_text("mías")
    told = ("--license", "apache-2.0", "--language", "es", "--dataset", "umsab", "--private")
    code, out, err = run("push", bundle, "team/ironia", *told)
    assert (code, out) == (0, ""), err
    assert "pushed 4 files" in err
    assert "team/ironia" in err
    assert TOKEN not in err
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert (hub.made["name"], hub.made["organization"]) == ("ironia", "team")
    assert set(hub.files) == {"model.onnx", "tokenizer.json", "bundle.json", "README.md"}
    assert hub.files["model.onnx"] == (bundle / "model.onnx").read_bytes()
    pushed = ModelCard(hub.files["README.md"].decode())
    assert pushed.data.to_dict() == {
        "pipeline_tag": "text-classification",
        "tags": ["twil"],
        "license": "apache-2.0",
        "language": ["es"],
        "datasets": ["umsab"],
    }
    assert "No la uses a ciegas." in pushed.text


def test_of_a_model_folder_no_path_and_no_log_leaves_the_machine(
    hub: Hub, tmp_path: Path, tokenizer_file: Path
) -> None:
    list(finetune_events(tiny_config(tmp_path, tokenizer_file), tmp_path / "model"))
    found = push(tmp_path / "model", "team/ironia")
    assert set(hub.files) == {"config.json", "model.safetensors", "tokenizer.json", "run.json", "README.md"}
    assert (found.files, found.licensed) == (5, False)
    assert str(tmp_path).encode() not in b"".join(hub.files.values())
    assert json.loads(hub.files["run.json"])["data"]["train"]["file"] == "train.tsv"
    pushed = ModelCard(hub.files["README.md"].decode())
    assert (pushed.data.pipeline_tag, pushed.data.model_name) == ("text-classification", "ironia")
    assert {result.metric_name for result in pushed.data.eval_results} >= {"accuracy", "macro_f1"}
    for title in ("# ironia", "## Use", "## Limits", "## Training", "## Scores"):
        assert f"\n{title}\n" in pushed.text


@pytest.mark.parametrize(
    ("status", "said"), [(401, "does not know you: log in"), (403, "may not write there"), (500, "try again")]
)
def test_what_the_hub_refuses_is_one_line_without_the_token(
    hub: Hub, run: Run, tmp_path: Path, status: int, said: str
) -> None:
    hub.status = status
    result = run("push", write_bundle(tmp_path / "bundle"), "team/ironia")
    fails(result, "team/ironia cannot be pushed", said)
    assert TOKEN not in result[2]


def test_without_a_network_a_name_or_a_model_nothing_is_pushed(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    for name in ("ironia", "a/b/c", "team/ir onia", "../x"):
        with pytest.raises(ConfigError, match="is no name on the hub: give OWNER/NAME"):
            push(bundle, name)
    with pytest.raises(ModelError, match="there is no model folder"):
        push(tmp_path / "nada", "team/ironia")
    assert hub.asked == []
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="check the network"):
        push(bundle, "team/ironia")
