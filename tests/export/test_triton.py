"""A repository for Triton holds the graph that takes texts, and says of it what it is."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
from bundles import make_tokenizer
from test_text_in import make_vocabulary, write_model
from tuning import twil_command

from twil.bundle.bundle import open_bundle
from twil.core.errors import ExportError
from twil.exporting.bundle import export_onnx
from twil.exporting.triton import model_name, write_repository


def test_the_configuration_is_that_of_the_graph(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", make_vocabulary())
    arguments = ["export", model, "--onnx", "--text-in", "--triton", "-o", tmp_path / "mis tuits"]
    done = twil_command(*arguments)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "mis tuits.triton" / "mis_tuits"
    assert f"wrote {folder} for Triton" in done.stderr
    graph = onnx.load(folder / "1" / "model.onnx").graph
    config = (folder / "config.pbtxt").read_text(encoding="utf-8")
    said = {
        name: (kind, dims.split(", "))
        for name, kind, dims in re.findall(r'name: "(\w+)" data_type: (\w+) dims: \[ ([-\d, ]+) \]', config)
    }
    assert said.keys() == {value.name for value in (*graph.input, *graph.output)}
    for value in (*graph.input, *graph.output):
        kind, dims = said[value.name]
        shape = value.type.tensor_type.shape.dim
        assert kind == {8: "TYPE_STRING", 1: "TYPE_FP32"}[value.type.tensor_type.elem_type]
        assert dims == [str(each.dim_value or -1) for each in shape]
    task = open_bundle(tmp_path / "mis tuits").manifest.task
    assert task is not None
    assert (folder / "labels.txt").read_text(encoding="utf-8").split() == list(task.labels)
    assert config.count("{") == config.count("}")
    again = twil_command(*arguments)
    assert (again.exit_code, "is there already" in again.stderr) == (1, True)
    assert twil_command(*arguments, "--force").exit_code == 0


def test_a_bundle_without_such_a_graph_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", make_tokenizer(40))
    export_onnx(model, tmp_path / "bundle")
    with pytest.raises(
        ExportError, match="no graph that takes texts, which Triton runs: export with --text-in"
    ):
        write_repository(tmp_path / "bundle", tmp_path / "repository")
    assert not (tmp_path / "repository").exists()
    done = twil_command("export", model, "--onnx", "--triton", "-o", tmp_path / "other")
    assert (done.exit_code, "add --text-in" in done.stderr) == (1, True)
    assert model_name(tmp_path / "año nuevo.v2") == "a_o_nuevo_v2"
