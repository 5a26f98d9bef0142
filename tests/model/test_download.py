"""Models of the hub by their names: what is asked of it, its cache, and what it does not give."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hub_models import library, make_hub_folder
from test_hub_folders import CLS, NORMALIZE, make_sentence_folder
from tuning import tiny_options, twil_command, write_sets

import twil
from twil.config.training import finetune_config
from twil.core.errors import ModelError
from twil.core.installation import install_command
from twil.model.folder import describe, hub_origin, load_with_tokenizer
from twil.model.hub import download as module
from twil.train.finetune import finetune_events

library()
huggingface_hub = pytest.importorskip("huggingface_hub")

NAME = "nadie/modelo"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def own_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the folder of an empty cache, and let nothing be reached but this machine."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    huggingface_hub.close_session()
    module.download.cache_clear()
    yield cache
    module.download.cache_clear()
    huggingface_hub.close_session()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do as ``HF_HUB_OFFLINE=1`` does."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def put_in_cache(cache: Path, folder: Path, name: str = NAME) -> Path:
    """Lay a model into a cache as the hub's library does."""
    root = cache / f"models--{name.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(REVISION)
    return Path(shutil.copytree(folder, root / "snapshots" / REVISION))


class Asked:
    """Stands in the place of the hub's library, and writes down what it is asked for."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.calls = folder, []  # type: tuple[Path, list[dict[str, Any]]]
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: None)

    def snapshot_download(self, name: str, **options: Any) -> str:
        self.calls.append({"name": name, **options})
        return str(self.folder)

    def wanted(self, files: list[str]) -> list[set[str]]:
        """Tell which of some files each call asks for."""
        return [
            set(
                huggingface_hub.utils.filter_repo_objects(
                    files, allow_patterns=call["allow_patterns"], ignore_patterns=call.get("ignore_patterns")
                )
            )
            for call in self.calls
        ]


SMALL = {"config.json", "tokenizer.json", "vocab.txt", "sentencepiece.bpe.model"}
WEIGHTS = ["model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json"]
PICKLED = ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "training_args.bin"]
OTHERS = ["tf_model.h5", "onnx/model.onnx", "onnx/config.json", "modeling_own.py", "a/model.safetensors"]
FILES = [*SMALL, *WEIGHTS, *PICKLED, *OTHERS]


class TestAsking:
    def test_safetensors_and_small_files_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "snapshot").mkdir()
        (tmp_path / "snapshot" / "model.safetensors").touch()
        asked = Asked(tmp_path / "snapshot", monkeypatch)
        assert module.download(NAME) == tmp_path / "snapshot"
        assert asked.wanted(FILES) == [SMALL | set(WEIGHTS)]

    def test_pickled_weights_where_there_are_no_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "snapshot").mkdir()
        asked = Asked(tmp_path / "snapshot", monkeypatch)
        module.download(NAME)
        first, second = asked.wanted(FILES)
        assert first == SMALL | set(WEIGHTS)
        assert second == SMALL | {"model.safetensors.index.json", *PICKLED[:2]}

    def test_folders_that_modules_name_and_no_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "model.safetensors").touch()
        named = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")]
        modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in named]
        (tmp_path / "modules.json").write_text(json.dumps(modules))
        asked = Asked(tmp_path, monkeypatch)
        module.download(NAME)
        theirs = ["1_Pooling/config.json", "2_Dense/config.json", "2_Dense/pytorch_model.bin"]
        others = ["2_Dense/README.md", "3_Other/config.json", "onnx/model.onnx"]
        first, second = asked.wanted([*FILES, *theirs, *others])
        assert first == SMALL | set(WEIGHTS)
        assert second == set(theirs)

    def test_modules_that_cannot_be_read_are_no_fault_of_the_network(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "modules.json").write_text('[{"path": "", "type": "models.StaticEmbedding"}]')
        Asked(tmp_path, monkeypatch)
        with pytest.raises(ModelError, match=rf"^{tmp_path}/modules.json begins with StaticEmbedding[^(]*$"):
            module.download(NAME)

    def test_once_for_a_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "model.safetensors").touch()
        asked = Asked(tmp_path, monkeypatch)
        assert module.download(NAME) == module.download(NAME)
        assert len(asked.calls) == 1

    def test_a_folder_of_the_same_name_is_taken_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_hub_folder(tmp_path / NAME, "bert", "classifier")
        asked = Asked(tmp_path, monkeypatch)
        assert describe(NAME).folder == Path(NAME)
        assert hub_origin(NAME) is None
        assert asked.calls == []


@pytest.mark.usefixtures("offline")
class TestOffline:
    def test_a_model_of_the_cache_opens_by_its_name(self, own_hub: Path, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "bert", "classifier")
        snapshot = put_in_cache(own_hub, folder)
        model, tokenizer = load_with_tokenizer(NAME)
        expected, _ = load_with_tokenizer(folder)
        assert describe(NAME).folder == snapshot
        assert tokenizer.get_vocab_size() <= model.vocab_size
        for name, value in expected.state_dict().items():
            assert np.array_equal(model.state_dict()[name], value)
        assert hub_origin(NAME) == {"name": NAME, "revision": REVISION}

    def test_an_encoder_in_a_folder_of_its_own_opens_with_its_modules(
        self, own_hub: Path, tmp_path: Path
    ) -> None:
        folder = make_sentence_folder(tmp_path / "model", CLS, NORMALIZE, encoder="0_Transformer")
        snapshot = put_in_cache(own_hub, folder)
        described = describe(NAME)
        assert described.folder == snapshot / "0_Transformer"
        vectors = load_with_tokenizer(NAME)[0].own_vectors()
        assert vectors is not None
        assert vectors.name == "normalised cls"
        assert hub_origin(NAME) == {"name": NAME, "revision": REVISION}

    def test_evaluate_takes_a_name(self, own_hub: Path, tmp_path: Path) -> None:
        folder = make_hub_folder(tmp_path / "model", "distilbert", "classifier", id2label={0: "N", 1: "P"})
        put_in_cache(own_hub, folder)
        test = write_sets(tmp_path)["test"]
        result = twil_command("evaluate", NAME, test, "--json")
        assert result.exit_code == 0, result.output
        expected = twil_command("evaluate", folder, test, "--json")
        assert json.loads(result.stdout)["report"] == json.loads(expected.stdout)["report"]

    def test_a_run_records_the_name_and_the_revision(self, own_hub: Path, tmp_path: Path) -> None:
        put_in_cache(own_hub, make_hub_folder(tmp_path / "model", "bert"))
        options = tiny_options(tmp_path, tmp_path)
        options["model"] = {"folder": NAME}
        options["train"] |= {"epochs": 1}
        for _ in finetune_events(finetune_config(None, options), tmp_path / "out"):
            pass
        run = json.loads((tmp_path / "out" / "run.json").read_text())
        assert run["hub"] == {"name": NAME, "revision": REVISION}

    def test_a_run_from_a_folder_records_no_name(self, tmp_path: Path) -> None:
        assert hub_origin(make_hub_folder(tmp_path / "model", "bert")) is None
        assert hub_origin(None) is None

    def test_a_name_that_is_not_in_the_cache(self) -> None:
        with pytest.raises(
            ModelError, match=rf"^there is no model folder {NAME}, and .*offline.*copy its files"
        ):
            describe(NAME)

    def test_a_model_whose_weights_never_came(self, own_hub: Path, tmp_path: Path) -> None:
        snapshot = put_in_cache(own_hub, make_hub_folder(tmp_path / "model", "bert"))
        (snapshot / "model.safetensors").unlink()
        with pytest.raises(ModelError, match=rf"{NAME} is no model folder \(it has no model.safetensors\)"):
            describe(NAME)


class TestRefused:
    def answer(self, monkeypatch: pytest.MonkeyPatch, code: int, error: str) -> None:
        """Be a hub that answers everything so."""

        class Hub(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(code)
                self.send_header("X-Error-Code", error)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(
            huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}"
        )

    @pytest.mark.parametrize(
        ("code", "error", "said"),
        [
            (404, "RepoNotFound", "no model of that name"),
            (401, "RepoNotFound", "no model of that name"),
            (403, "GatedRepo", "accepted its terms"),
        ],
    )
    def test_a_model_that_the_hub_does_not_give(
        self, code: int, error: str, said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.answer(monkeypatch, code, error)
        with pytest.raises(ModelError, match=rf"^there is no model folder {NAME}, and .*{said}") as refused:
            describe(NAME)
        assert "\n" not in str(refused.value)

    def test_a_model_whose_files_alone_are_guarded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            response = SimpleNamespace(headers={}, request=None)
            raise huggingface_hub.errors.GatedRepoError("403 Client Error.\n\nAccess", response=response)

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: None)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with pytest.raises(ModelError, match="accepted its terms"):
            describe(NAME)

    def test_a_hub_that_is_ill_gives_what_the_cache_has(
        self, own_hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.answer(monkeypatch, 503, "")
        put_in_cache(own_hub, make_hub_folder(tmp_path / "model", "bert"))
        assert hub_origin(NAME) == {"name": NAME, "revision": REVISION}

    def test_a_network_that_is_not_there_is_said_at_once(self) -> None:
        begun = time.monotonic()
        with pytest.raises(
            ModelError, match=r"cannot be had \(.*\): check the name and the network"
        ) as refused:
            describe(NAME)
        assert "\n" not in str(refused.value)
        assert time.monotonic() - begun < 5

    def test_a_network_that_is_silent_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_PATIENCE", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as server:  # it takes connections and says nothing
            monkeypatch.setattr(
                huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}"
            )
            begun = time.monotonic()
            with pytest.raises(ModelError, match="timed out"):
                describe(NAME)
            assert time.monotonic() - begun < 5

    def test_a_mistyped_folder(self, tmp_path: Path) -> None:
        (tmp_path / "model").mkdir()
        sets = write_sets(tmp_path)
        result = twil_command(
            "finetune", sets["train"], "--model", "modle", "--dev", sets["dev"], "-o", "out"
        )
        assert result.exit_code == 1
        said = " ".join(result.stderr.split())
        assert re.search(r"there is no model folder modle, .* \(did you mean model\?\)$", said)
        assert not (tmp_path / "out").exists()

    def test_a_mistyped_folder_without_the_library(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "model").mkdir()
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(
            ModelError, match=rf"modle, and .*{re.escape(install_command('hub'))} \(did you mean model\?\)"
        ):
            twil.load("modle")
