"""Model folders and models of the hub: exported once, by another process, into a cache of whole bundles."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from bundles import write_bundle
from commands import Run, fails

from twil.bundle import cache
from twil.bundle.bundle import open_bundle
from twil.bundle.cache import bundle_of, cache_folder, cached_models, prepared
from twil.core.errors import MissingExtraError, ModelError, TwilError
from twil.core.installation import install_command
from twil.inference.predictor import Predictor

TARGET = 7  # its place among the words behind the program, as of the export's command


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWIL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "t.tsv").write_text("TEXT\nqué día\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def model(home: Path) -> Path:
    """Give what is taken for a model folder; that of a real one is as long."""
    folder = home / "mi modelo"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def exporter(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program that copies a bundle in the place of Python; it writes down its words, a line a call."""
    bundle = write_bundle(home / "made" / "bundle")
    return put_exporter(home, monkeypatch, f'cp -r {bundle} "${TARGET}"; echo "note: dicho"')


def put_exporter(home: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> Path:
    program, calls = home / "python", home / "calls"
    program.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{does}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(program))
    return calls


def calls(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0


def left() -> list[str]:
    """List what lies in the cache, hidden things too."""
    folder = cache_folder() / "exported"
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


def test_a_folder_is_exported_once_and_what_is_done_is_told(exporter: Path, model: Path) -> None:
    steps = list(prepared(model, "classifier"))
    said = [step.said for step in steps]
    assert said[0].startswith(f"{model} is exported once, in fp32")
    assert said[1] == "note: dicho"
    assert said[2].startswith("exported in 0.")
    assert list(prepared(model, "classifier")) == []
    assert Predictor(model, provider="cpu")("hola").label
    assert calls(exporter) == 1
    (kept,) = cached_models()
    assert (kept.model, kept.kind, kept.revision) == (str(model), "classifier", "")
    assert kept.size == sum(file.stat().st_size for file in (cache_folder() / "exported").rglob("*.*"))


def test_the_export_is_the_one_of_the_command_line(exporter: Path, model: Path, run: Run) -> None:
    bundle_of(model, "encoder")
    words = exporter.read_text(encoding="utf-8").replace(str(model), "MODEL").split()
    assert words[:6] == ["-P", "-m", "twil", "export", "MODEL", "-o"]
    assert words[-2:] == ["--head", "encoder"]
    fails(run("export", "none", "-o", "out", *words[TARGET:]), "there is no model folder none")


@pytest.mark.parametrize("what", ["weights", "tokenizer", "config", "kind", "version", "options"])
def test_whatever_decides_the_export_has_a_place_of_its_own(
    exporter: Path, model: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bundle_of(model, "classifier")
    files = {"weights": "model.safetensors", "tokenizer": "tokenizer.json", "config": "config.json"}
    if what in files:
        (model / files[what]).write_text("otro")
    elif what == "version":
        monkeypatch.setattr(cache, "__version__", "9")
    elif what == "options":
        monkeypatch.setattr(cache, "OPTIONS", ("--onnx",))
    second = bundle_of(model, "encoder" if what == "kind" else "classifier")
    assert first != second
    assert calls(exporter) == 2
    assert first.name == second.name == "mi-modelo"


def test_where_a_folder_lies_does_not_matter_nor_what_else_lies_there(
    exporter: Path, model: Path, home: Path
) -> None:
    first = bundle_of(model, "classifier")
    (model / "log.jsonl").write_text("{}")
    (model / "optimizer.pt").write_text("x")
    (home / "sub").mkdir()
    moved = model.rename(home / "sub" / model.name)
    assert bundle_of(moved, "classifier") == first
    assert calls(exporter) == 1


@pytest.mark.parametrize(
    "damage", ["changed", "cut", "record", "no record", "no manifest", "no graph", "emptied"]
)
def test_what_is_damaged_in_the_cache_is_made_anew(exporter: Path, model: Path, damage: str) -> None:
    bundle = bundle_of(model, "classifier")
    record = bundle.parent / "made.json"
    if damage == "changed":
        (bundle / "model.onnx").write_bytes((bundle / "model.onnx").read_bytes()[::-1])
    elif damage == "cut":
        os.truncate(bundle / "tokenizer.json", 100)
    elif damage == "record":
        record.write_text("[]")
    elif damage == "emptied":
        for file in bundle.iterdir():
            file.unlink()
    else:
        {"no record": record, "no graph": bundle / "model.onnx"}.get(damage, bundle / "bundle.json").unlink()
    said = [step.said for step in prepared(model, "classifier")]
    assert said[0].endswith("is damaged, and is made anew")
    assert calls(exporter) == 2
    open_bundle(bundle)


def test_two_at_a_time_make_one(home: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(home / "made" / "bundle")
    counted = put_exporter(home, monkeypatch, f'sleep 0.5; cp -r {bundle} "${TARGET}"')
    monkeypatch.setattr(cache, "_POLL", 0.01)
    first = threading.Thread(target=bundle_of, args=(model, "classifier"))
    first.start()
    while not counted.exists():
        time.sleep(0.01)
    said = [step.said for step in prepared(model, "classifier")]
    first.join()
    assert said == ["another process exports this model: waiting for it"]
    assert calls(counted) == 1


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ('echo "twil: error: faltan pesos: cópialos"; exit 1', "cannot be run: faltan pesos: cópialos"),
        ("echo Traceback; echo ValueError; exit 1", "the export ended with exit code 1: ValueError"),
        ("kill -9 $$", "the export ended with signal 9"),
        (f'mkdir "${TARGET}"; exit 2', "exit code 2"),
        ("exit 0", "there is no bundle folder"),
    ],
)
def test_an_export_that_fails_leaves_nothing(
    home: Path, model: Path, monkeypatch: pytest.MonkeyPatch, run: Run, does: str, said: str
) -> None:
    put_exporter(home, monkeypatch, does)
    with pytest.raises(ModelError, match=said):
        bundle_of(model, "classifier")
    assert left() == []
    code, out, err = run("predict", "t.tsv", "-m", model, "-q")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert said in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_export_that_is_interrupted_ends_at_once_and_leaves_nothing(
    home: Path, model: Path, number: signal.Signals
) -> None:
    program = home / "python"
    program.write_text(f'#!/bin/sh\nmkdir "${TARGET}"; echo $$ > {home / "child"}; exec sleep 60\n')
    program.chmod(0o755)
    script = (
        "import sys, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from twil.cli.main import main\n"
        f"sys.argv = ['twil', 'predict', 't.tsv', '-m', {str(model)!r}]; sys.executable = {str(program)!r}\n"
        "main()"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    while not ((home / "child").exists() and (home / "child").read_text()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    with pytest.raises(ProcessLookupError):
        os.kill(int((home / "child").read_text()), 0)
    assert left() == []


def test_what_a_killed_process_left_is_cleared_and_other_things_are_not(
    exporter: Path, model: Path, run: Run
) -> None:
    entry = bundle_of(model, "classifier").parent
    half, foreign = entry.with_name(f".{entry.name}-17-abcd1234"), entry.with_name("fotos")
    (half / "x").mkdir(parents=True)
    foreign.mkdir()
    (entry / "made.json").unlink()
    bundle_of(model, "classifier")
    assert left() == sorted([entry.name, "fotos"])
    half.mkdir()
    code, _, err = run("models", "remove", "--all")
    assert (code, left()) == (0, ["fotos"])
    assert err.startswith(f"removed {entry.name}, ")
    fails(run("models", "remove", "fotos"), "the cache holds no model fotos")
    fails(run("models", "remove", ".."), "the cache holds no model ..")


def test_the_cache_is_listed_and_its_models_are_removed_by_name(
    exporter: Path, model: Path, run: Run
) -> None:
    entry = bundle_of(model, "classifier").parent
    (kept,) = json.loads(run("models", "--json")[1])["cache"]["models"]
    assert (kept["name"], kept["model"]) == (entry.name, str(model))
    shown = run("models")[1]
    assert entry.name in shown
    assert f"of{model}".replace(" ", "") in "".join(shown.split())  # which a narrow page folds
    assert run("models", "remove", entry.name)[0] == 0
    assert left() == []


@pytest.mark.parametrize(
    ("module", "extra"), [("torch", "train"), ("onnx", "train"), ("transformers", "hub")]
)
def test_what_is_not_installed_is_named_before_anything_starts(
    exporter: Path, model: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    find = cache.importlib.util.find_spec
    monkeypatch.setattr(
        cache.importlib.util, "find_spec", lambda name: None if name == module else find(name)
    )
    with pytest.raises(MissingExtraError, match=rf"alguien/modelo .* {re.escape(install_command(extra))}$"):
        bundle_of("alguien/modelo", "classifier")
    if extra == "train":
        with pytest.raises(MissingExtraError, match=r"mi modelo is exported before it is run"):
            bundle_of(model, "classifier")
    assert calls(exporter) == 0


def test_a_model_of_the_hub_is_asked_for_once_by_its_name(
    exporter: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    revision = "0123456789abcdef0123456789abcdef01234567"
    stored = home / "hub" / "models--alguien--modelo"
    for file, content in ((f"snapshots/{revision}/config.json", "{}"), ("refs/main", revision)):
        (stored / file).parent.mkdir(parents=True)
        (stored / file).write_text(content)
    assert bundle_of("alguien/modelo", "classifier").name == "modelo"
    assert " alguien/modelo -o " in exporter.read_text(encoding="utf-8")
    bundle_of("alguien/modelo", "classifier")
    assert calls(exporter) == 1
    (kept,) = cached_models()
    assert (kept.model, kept.revision) == ("alguien/modelo", revision)


@pytest.mark.parametrize(
    ("own", "given", "folder"),
    [
        ("/a/b", "/x", "/a/b"),
        (None, "/x", "/x/twil"),
        (None, "relative", "~/.cache/twil"),
        ("", "", "~/.cache/twil"),
    ],
)
def test_the_cache_lies_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, own: str | None, given: str, folder: str
) -> None:
    monkeypatch.delenv("TWIL_CACHE")
    if own is not None:
        monkeypatch.setenv("TWIL_CACHE", own)
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert cache_folder() == Path(folder).expanduser()


def test_a_cache_that_cannot_be_made_is_told(
    exporter: Path, model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWIL_CACHE", str(home / "t.tsv"))
    with pytest.raises(TwilError, match=r"cannot be made .* name another folder .* in TWIL_CACHE"):
        bundle_of(model, "classifier")
