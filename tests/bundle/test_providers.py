"""Other places than the CPU: what each is asked for, what keeps it away, and OpenVINO as it computes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np
import onnxruntime
import pytest
from bundles import write_bundle
from tuning import twil_command

from twil.bundle import providers
from twil.bundle.bundle import open_bundle
from twil.bundle.diagnosis import diagnose
from twil.bundle.providers import CUDA, OPENVINO, TENSORRT, Provider, ProviderChoice, ProviderRequest
from twil.bundle.runtime import Place
from twil.bundle.session import Session
from twil.cli.console import PROVIDERS
from twil.core.errors import MissingExtraError, ProviderError
from twil.core.installation import install_command
from twil.data.batching import pad_batch
from twil.inference.predictor import Predictor

TEXTS = [
    "qué frío hace hoy",
    "vaya día 😀",
    "el tren llegó con una hora de retraso",
    "sí",
    "qué frío hace hoy",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Place]:
    """What ONNX Runtime is asked for on a machine that is said to have everything of NVIDIA's."""
    noted: list[Place] = []

    def note(runtime: object, graph: object, places: tuple[Place, ...], **_: object) -> Any:
        noted.extend(places)
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(providers, "count_devices", lambda: 1)
    monkeypatch.setattr(providers, "open_graph", note)
    return noted


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """OpenVINO's plug-in on a processor that it does not know: it loads once, and offers no device.

    Gives the names under which it was loaded.
    """
    module = ModuleType("onnxruntime_ep_openvino")
    module.__spec__ = ModuleSpec(module.__name__, None)
    module.get_library_path = lambda: str(tmp_path / "plug-in.so")  # type: ignore[attr-defined]
    names: list[str] = []

    def register(name: str, library: str) -> None:
        if name in names:
            raise RuntimeError(
                f"[ONNXRuntimeError] : 1 : FAIL : EP library is already registered under {name}"
            )
        names.append(name)

    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(onnxruntime, "get_ep_devices", list)
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", register)
    return names


def test_help_and_library_name_the_same_providers() -> None:
    assert f"{', '.join(get_args(ProviderChoice)[:-1])} or {get_args(ProviderChoice)[-1]}." == PROVIDERS
    assert get_args(ProviderChoice) == ("auto", *get_args(Provider))


@pytest.mark.parametrize(
    ("provider", "cure"),
    [("cuda", "cpu"), ("cuda-graphs", "cuda"), ("tensorrt", "cuda")],
)
def test_fp32_is_fp32_on_every_provider_of_nvidia(
    folder: Path, asked: list[Place], provider: Provider, cure: str
) -> None:
    with pytest.raises(ProviderError, match=rf"no kernel image\): .*run with --provider {cure}$"):
        Session(open_bundle(folder), provider=provider)
    on_cuda = next(place for place in asked if place.provider == CUDA)
    assert on_cuda.options["use_tf32"] == "0"
    assert ("enable_cuda_graph" in on_cuda.options) == (provider == "cuda-graphs")


def test_tensorrt_is_asked_for_one_engine_for_every_shape(folder: Path, asked: list[Place]) -> None:
    with pytest.raises(ProviderError):
        Session(open_bundle(folder), provider="tensorrt")
    first, behind = asked
    assert (first.provider, behind.provider) == (TENSORRT, CUDA)
    assert first.options["trt_profile_min_shapes"] == "input_ids:1x1,attention_mask:1x1,segment_ids:1x1"
    assert "segment_ids:512x32" in first.options["trt_profile_max_shapes"]
    assert first.options["trt_fp16_enable"] == "0"


def test_the_diagnosis_asks_tensorrt_for_no_shape_of_a_bundle(asked: list[Place]) -> None:
    assert "no kernel image" in diagnose().providers[TENSORRT]
    assert not any("profile" in name for name in asked[0].options)


def test_a_wheel_without_tensorrt_names_the_wheel_that_has_it(folder: Path) -> None:
    if TENSORRT in onnxruntime.get_available_providers():
        pytest.skip("this wheel has TensorRT")
    with pytest.raises(
        ProviderError,
        match=rf"TensorRT cannot be had, as .* without TensorRT: .*{re.escape(install_command('gpu'))}",
    ):
        Session(open_bundle(folder), provider="tensorrt")


def test_tensorrt_whose_libraries_are_missing_names_their_package(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA])
    monkeypatch.setattr(providers, "count_devices", lambda: 1)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(
            "bindings.cc:729 Please install TensorRT libraries as mentioned in the requirements"
        )

    opened = onnxruntime.InferenceSession(open_bundle(folder).graph, providers=["CPUExecutionProvider"])
    for answer in (refuse, lambda *_, **__: opened):  # as ONNX Runtime of different versions does
        monkeypatch.setattr(providers, "open_graph", answer)
        with pytest.raises(ProviderError, match=r"do not load: pip install .*gpu.* 'tensorrt==10\.\*'$"):
            Session(open_bundle(folder), provider="tensorrt")


def test_openvino_that_is_not_installed_names_its_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", None)
    with pytest.raises(
        MissingExtraError, match=rf"provider openvino needs .*{re.escape(install_command('openvino'))}"
    ):
        Session(open_bundle(folder), provider="openvino")


NO_CPU = "OpenVINO cannot be had, as this machine has no CPU that OpenVINO knows: run with --provider cpu"


def test_a_processor_that_openvino_does_not_know_is_told_each_time(
    folder: Path, plug_in: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = open_bundle(folder)

    def refused(_: int) -> str:
        with pytest.raises(ProviderError) as caught:
            Session(bundle, provider="openvino")
        return str(caught.value)

    assert [refused(1), refused(2)] == [NO_CPU] * 2
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(refused, range(8))) == {NO_CPU}
    assert diagnose().providers[OPENVINO] == "this machine has no CPU that OpenVINO knows"
    assert plug_in == [OPENVINO]  # loaded once
    assert capfd.readouterr() == ("", "")


def test_a_plug_in_that_the_program_around_has_loaded_is_not_loaded_again(
    folder: Path, plug_in: list[str]
) -> None:
    plug_in.append(OPENVINO)
    with pytest.raises(ProviderError) as caught:
        Session(open_bundle(folder), provider="openvino")
    assert str(caught.value) == NO_CPU


@pytest.mark.parametrize("command", ["predict", "embed"])
def test_a_user_on_such_a_processor_sees_one_line(
    folder: Path, tmp_path: Path, plug_in: list[str], command: str
) -> None:
    model = folder if command == "predict" else write_bundle(tmp_path / "encoder", None)
    (tmp_path / "rows.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    target = tmp_path / ("out.tsv" if command == "predict" else "out.npy")
    for _ in range(2):
        done = twil_command(
            command, tmp_path / "rows.txt", "-m", model, "-o", target, "--provider", "openvino"
        )
        assert (done.exit_code, done.stdout, done.stderr) == (1, "", f"twil: error: {NO_CPU}\n")
    assert not target.exists()


def test_a_plug_in_for_another_runtime_is_an_obstacle_until_it_is_replaced(
    folder: Path, plug_in: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("The requested API version [99] is not available")

    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", refuse)
    for _ in range(2):
        with pytest.raises(ProviderError, match=r"libraries do not load \(The requested API version .*pip"):
            Session(open_bundle(folder), provider="openvino")
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", lambda *_: None)
    with pytest.raises(ProviderError, match=NO_CPU):
        Session(open_bundle(folder), provider="openvino")
    assert capfd.readouterr() == ("", "")


def test_a_plug_in_that_does_not_import_is_an_obstacle_and_no_crash(
    folder: Path, plug_in: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(providers, "require", refuse)
    with pytest.raises(ProviderError, match=r"do not load \(libtbb\.so\.12"):
        Session(open_bundle(folder), provider="openvino")
    assert "libtbb" in diagnose().providers[OPENVINO]


DEVICES = """
import onnxruntime, onnxruntime_ep_openvino
library = onnxruntime_ep_openvino.get_library_path()
onnxruntime.register_execution_provider_library("OpenVINOExecutionProvider", library)
print(*(one.ep_metadata.get("ov_device") for one in onnxruntime.get_ep_devices()))
"""


@pytest.fixture(scope="module")
def openvino_devices() -> list[str]:
    """Ask the plug-in what it knows here, past twil: what twil does not find is no reason to skip."""
    pytest.importorskip("onnxruntime_ep_openvino", reason="the extra openvino is not installed")
    return subprocess.check_output([sys.executable, "-c", DEVICES], text=True).split()


class TestOpenVino:
    """On this machine's CPU."""

    @pytest.fixture(autouse=True)
    def _knows_this_cpu(self, openvino_devices: list[str]) -> None:
        if "CPU" not in openvino_devices:
            pytest.skip("OpenVINO's plug-in knows no CPU of this machine")

    def test_its_numbers_are_those_of_the_cpu(self, folder: Path) -> None:
        bundle = open_bundle(folder)
        session = Session(bundle, provider="openvino", threads=1)
        assert (session.provider, session.reason, session.streams) == ("openvino", "", 1)
        here = Session(bundle, provider="cpu", threads=1)
        for rows in ([[3, 4]], [[3, 7, 8, 4], [3, 9, 4]], [[3, *range(5, 35), 4]] * 9):
            batch = pad_batch(rows)
            for name, values in session.run(batch).items():
                np.testing.assert_allclose(values, here.run(batch)[name], atol=1e-5)

    def test_batches_are_computed_side_by_side(self, folder: Path) -> None:
        session = Session(open_bundle(folder), provider="openvino", threads=1, streams=3)
        batches = [pad_batch([[3, *range(5, 6 + length), 4]] * 4) for length in range(20)]
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(session.run, batches * 3))
        for batch, values in zip(batches * 3, together, strict=True):
            np.testing.assert_array_equal(values["logits"], session.run(batch)["logits"])

    def test_a_predictor_labels_as_on_the_cpu(self, folder: Path) -> None:
        with (
            Predictor(folder, provider="openvino", threads=2, side_by_side=True) as there,
            Predictor(folder, provider="cpu", threads=2) as here,
        ):
            assert there.workers == 2
            for found, expected in zip(there(TEXTS), here(TEXTS), strict=True):
                assert found.label == expected.label
                assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-5)

    def test_sessions_opened_at_once_leave_standard_output_as_it_was(self, folder: Path) -> None:
        bundle, before = open_bundle(folder), sys.stdout
        with ThreadPoolExecutor(6) as pool:
            sessions = list(pool.map(lambda _: Session(bundle, provider="openvino", threads=1), range(12)))
        assert sys.stdout is before
        assert {session.provider for session in sessions} == {"openvino"}

    def test_the_diagnosis_loads_it(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert diagnose().providers[OPENVINO] == ""
        assert capfd.readouterr() == ("", "")

    def test_from_the_command_line(self, folder: Path, tmp_path: Path) -> None:
        source = tmp_path / "rows.tsv"
        source.write_text("ID\tTEXT\n" + "".join(f"{row}\t{text}\n" for row, text in enumerate(TEXTS)))
        outputs = []
        for provider in ("cpu", "openvino"):
            target = tmp_path / f"{provider}.tsv"
            done = twil_command("predict", source, "-m", folder, "-o", target, "--provider", provider)
            assert done.exit_code == 0, done.output
            assert f"on {provider}, " in done.stderr
            outputs.append([line.split("\t")[:2] for line in target.read_text().splitlines()])
        assert outputs[0] == outputs[1]


def test_openvino_is_loaded_only_where_it_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", None)
    assert Session(open_bundle(folder)).provider != "openvino"


def test_a_wish_is_called_by_the_name_of_what_computes() -> None:
    assert [ProviderRequest(one).title for one in ("cuda", "cuda-graphs", "tensorrt", "openvino")] == [
        "CUDA",
        "CUDA",
        "TensorRT",
        "OpenVINO",
    ]


def test_onnx_runtime_reports_nothing_of_its_use(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    home = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    program = "from twil.bundle.runtime import import_runtime; import_runtime()"
    subprocess.run([sys.executable, "-c", program], env={**environment, **home}, check=True)
    assert list(tmp_path.iterdir()) == []  # where it reports, it keeps an identifier of the machine
