"""The manifest of a bundle: no value of it is wrong or changes unnoticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from bundles import POLARITY, write_bundle

from twil.bundle.bundle import CHECKSUM, MANIFEST, TASK_KEY, open_bundle
from twil.bundle.session import Session
from twil.core.errors import ModelError
from twil.core.task import Task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(value)
    (folder / MANIFEST).write_text(json.dumps(value), encoding="utf-8")


def refused(folder: Path, said: str) -> None:
    with pytest.raises(ModelError, match=rf"bundle\.json .*{said}.*export the model again") as caught:
        open_bundle(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["task"].update(labels=["NEG", "NEX", "POS"]),
        lambda value: value["task"].update(labels=["POS", "NEU", "NEG"]),
        lambda value: value["task"].update(temperature=2.0),
        lambda value: value.update(max_length=16),
        lambda value: value.update(pad_id=1),
        lambda value: value.update(pooling="max"),
        lambda value: value.update(opset=18),
        lambda value: value["versions"].update(twil="9"),
        lambda value: value["parity"].update(tolerance=1.0),
        lambda value: value["files"].pop("tokenizer.json"),
        lambda value: value.update({CHECKSUM: "0" * 64}),
    ],
)
def test_a_changed_value_is_refused(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(folder, change)
    refused(folder, "changed after the export")


def test_the_layout_of_the_manifest_does_not_matter(folder: Path) -> None:
    before = open_bundle(folder)
    edit(folder, lambda value: value.update(kind=value.pop("kind")))  # now last, and all in one line
    assert open_bundle(folder) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("kind", value) for value in ("decoder", None, ["classifier"])),
        *(("max_length", value) for value in ("32", 32.0, True, None, 0)),
        *(("pad_id", value) for value in ("x", -1, None, [0])),
        *(("precision", value) for value in ("int4", 32)),
        ("pooling", 3),
        *(("task", value) for value in (["x"], "x", 0, {}, {"kind": "class"})),
        *(("files", value) for value in (["model.onnx"], None, "model.onnx", {"model.onnx": 1})),
        *(("parity", value) for value in (None, [])),
        *(("versions", value) for value in ({"twil": 1}, [])),
        *(("opset", value) for value in ("17", None)),
        *(("format", value) for value in (True, 1.0)),
        *((CHECKSUM, value) for value in (None, 7)),
    ],
)
def test_a_value_of_another_type_is_one_clear_line(folder: Path, name: str, value: object) -> None:
    edit(folder, lambda manifest: manifest.update({name: value}))
    refused(folder, name)


@pytest.mark.parametrize("labels", ["abc", [1, 2, 3], None, {"a": 1}, ["NEG", None, "POS"]])
def test_labels_are_a_list_of_texts(folder: Path, labels: object) -> None:
    edit(folder, lambda value: value["task"].update(labels=labels))
    refused(folder, "no description of a task")


def test_fields_are_neither_missing_nor_more(folder: Path) -> None:
    for change in (lambda value: value.pop("pad_id"), lambda value: value.update(pad_id=0, extra=1)):
        edit(folder, change)
        refused(folder, "not exactly the fields kind, max_length, pad_id")


def test_only_a_classifier_has_a_task(folder: Path) -> None:
    edit(folder, lambda value: value.update(kind="encoder"))
    refused(folder, "an encoder has none")
    edit(folder, lambda value: value.update(kind="classifier", task=None))
    refused(folder, "a classifier has a task")


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b"9" * 5000])
def test_what_is_no_manifest_is_refused(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    refused(folder, "")


@pytest.mark.parametrize("format", [3, "2", None, [1]])
def test_another_format_asks_for_another_twil(folder: Path, format: object) -> None:  # noqa: A002
    edit(folder, lambda value: value.update(format=format))
    with pytest.raises(ModelError, match="this twil reads 1 and 2: update twil"):
        open_bundle(folder)


def name_task(content: str) -> Callable[[onnx.ModelProto], object]:
    return lambda model: onnx.helper.set_model_props(model, {TASK_KEY: content})


def test_the_task_of_the_graph_is_that_of_the_manifest(tmp_path: Path) -> None:
    same = write_bundle(tmp_path / "same", change=name_task(json.dumps(POLARITY.as_dict())))
    assert Session(open_bundle(same), provider="cpu").bundle.manifest.task == POLARITY
    for number, task in enumerate(
        (
            Task("class", ("NEG", "NEX", "POS")),
            Task("class", ("POS", "NEU", "NEG")),
            Task("class", ("A", "B")),
        )
    ):
        other = write_bundle(tmp_path / str(number), change=name_task(json.dumps(task.as_dict())))
        with pytest.raises(ModelError, match="with another task than its manifest names"):
            Session(open_bundle(other), provider="cpu")


def test_an_encoder_of_a_graph_with_a_task_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", None, change=name_task(json.dumps(POLARITY.as_dict())))
    with pytest.raises(ModelError, match="with another task"):
        Session(open_bundle(folder), provider="cpu")


@pytest.mark.parametrize("content", ["", "null", "[]", '"class"', "{}", "[" * 100_000])
def test_a_task_that_cannot_be_read_is_a_model_error(tmp_path: Path, content: str) -> None:
    folder = write_bundle(tmp_path / "b", change=name_task(content))
    with pytest.raises(ModelError, match=r"model\.onnx names no task"):
        Session(open_bundle(folder), provider="cpu")
