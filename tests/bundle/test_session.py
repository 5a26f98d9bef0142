"""Sessions: what they run on, what they refuse, and that they keep quiet."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from bundles import POLARITY, make_graph, write_bundle
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from twil.bundle import providers
from twil.bundle import runtime as runtime_module
from twil.bundle.bundle import open_bundle
from twil.bundle.external import TENSOR_PATHS, external_files
from twil.bundle.session import Session
from twil.core.errors import MissingExtraError, ModelError, ProviderError
from twil.core.installation import install_command
from twil.data.batching import Batch, pad_batch

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
BATCH = pad_batch([[3, 7, 8, 4], [3, 9, 4]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def open_session(folder: Path, **options: object) -> Session:
    return Session(open_bundle(folder), **options)  # type: ignore[arg-type]


def offer(monkeypatch: pytest.MonkeyPatch, *offered: str, devices: int = 0) -> None:
    """Let ONNX Runtime and the driver say that they have these."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(offered))
    monkeypatch.setattr(providers, "count_devices", lambda: devices)


def test_outputs_come_by_name_as_float32(folder: Path) -> None:
    session = open_session(folder, provider="cpu")
    outputs = session.run(BATCH)
    assert (session.provider, session.reason) == ("cpu", "")
    assert {name: (array.dtype, array.shape) for name, array in outputs.items()} == {
        "logits": (np.float32, (2, 3)),
        "probabilities": (np.float32, (2, 3)),
    }
    np.testing.assert_allclose(outputs["probabilities"], POLARITY.probabilities(outputs["logits"]), atol=1e-6)


def test_an_encoder_gives_token_vectors_and_a_pooled_one(tmp_path: Path) -> None:
    outputs = open_session(write_bundle(tmp_path / "encoder", None), provider="cpu").run(BATCH)
    assert {name: array.shape for name, array in outputs.items()} == {
        "token_vectors": (2, 4, 8),
        "pooled": (2, 8),
    }


def test_auto_takes_the_cpu_and_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, CPU)
    session = open_session(folder)
    assert session.provider == "cpu"
    assert "built without CUDA" in session.reason


def test_cuda_from_a_wheel_without_it_names_the_wheel_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, CPU)
    with pytest.raises(
        ProviderError,
        match=rf"built without CUDA: pip uninstall .*, then {re.escape(install_command('gpu'))}",
    ):
        open_session(folder, provider="cuda")


def test_cuda_without_a_device_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, CUDA, CPU, devices=0)
    with pytest.raises(ProviderError, match=r"no NVIDIA device.*nvidia-smi"):
        open_session(folder, provider="cuda")


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="CUDA may really load here")
class TestWhereCudaFailsToLoad:
    """ONNX Runtime then goes on with the CPU by itself: only `get_providers()` tells."""

    @pytest.fixture(autouse=True)
    def _libraries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        offer(monkeypatch, CUDA, CPU, devices=1)
        said = "Failed to load libcublasLt.so.12: libcublasLt.so.12: cannot open shared object file"
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print(said), raising=False)  # noqa: T201

    def test_a_request_for_cuda_fails_with_the_library_and_the_cure(
        self, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        cure = r"do not load \(libcublasLt\.so\.12\): pip install 'onnxruntime-gpu\[cuda,cudnn\]'"
        with pytest.raises(ProviderError, match=cure):
            open_session(folder, provider="cuda")
        assert capfd.readouterr() == ("", "")

    def test_auto_goes_on_with_the_cpu_and_says_so(
        self, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        session = open_session(folder)
        assert session.provider == "cpu"
        assert "libcublasLt.so.12" in session.reason
        assert capfd.readouterr() == ("", "")


def test_a_device_that_refuses_the_graph_is_an_obstacle_to_cuda_and_not_to_auto(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    offer(monkeypatch, CUDA, CPU, devices=1)
    create = onnxruntime.InferenceSession._create_inference_session

    def refuse_cuda(self: object, providers: list[tuple[str, object]], *rest: object) -> None:
        if any(CUDA in provider for provider in providers):
            raise RuntimeError("CUDA failure 2: out of memory")
        create(self, providers, *rest)

    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", refuse_cuda)
    with pytest.raises(ProviderError, match=r"out of memory\): free the device's memory"):
        open_session(folder, provider="cuda")
    session = open_session(folder)
    assert (session.provider, "out of memory" in session.reason) == ("cpu", True)
    assert capfd.readouterr() == ("", "")


def test_unknown_providers_and_no_threads_are_refused(folder: Path) -> None:
    with pytest.raises(
        ProviderError, match="'tpu': choose one of auto, cpu, cuda, cuda-graphs, tensorrt, openvino"
    ):
        open_session(folder, provider="tpu")
    with pytest.raises(ProviderError, match="0 threads"):
        open_session(folder, threads=0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_threads_come_from_the_affinity_and_not_from_the_host(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert open_session(folder, provider="cpu").threads == 1
    finally:
        os.sched_setaffinity(0, allowed)
    monkeypatch.setattr("twil.core.machine.available_cpus", lambda: 4)
    session = open_session(folder, provider="cpu", threads=3)
    assert session.threads == 3
    assert session._graph.get_session_options().intra_op_num_threads == 3


def test_threads_that_have_nothing_to_do_leave_the_cpu_to_others() -> None:
    side = 1024
    weights = numpy_helper.from_array(np.ones((side, side), np.float32), "weights")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [side, side]) for name in ("rows", "sums")]
    product = helper.make_node("MatMul", ["rows", "weights"], ["sums"])
    graph = helper.make_graph([product], "product", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = runtime_module.open_graph(onnxruntime, model.SerializeToString(), threads=4)
    session.run(None, {"rows": np.ones((side, side), np.float32)})
    begin = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - begin < 0.01


def test_a_missing_runtime_is_answered_with_the_install_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=rf"{re.escape(install_command('cpu'))}"):
        open_session(folder)


@pytest.mark.parametrize("damage", [b"", b"not a graph at all", b"\x3a\xff\xff\x03", b"\x08\x08"])
def test_a_damaged_graph_is_a_model_error_and_leaves_stderr_clean(
    tmp_path: Path, damage: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_bundle(tmp_path / "bundle", graph_bytes=lambda _: damage)
    with pytest.raises(ModelError, match=r"model\.onnx.*export the model again"):
        open_session(folder, provider="cpu")
    assert capfd.readouterr() == ("", "")


def test_a_graph_cut_anywhere_is_a_model_error(tmp_path: Path) -> None:
    whole = make_graph(POLARITY).SerializeToString()
    for number, end in enumerate(range(1, len(whole), len(whole) // 12)):
        folder = write_bundle(tmp_path / str(number), graph_bytes=lambda graph, end=end: graph[:end])
        with pytest.raises(ModelError):
            open_session(folder, provider="cpu")


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[2].name = "token_type_ids"
    for node in model.graph.node:
        node.input[:] = ["token_type_ids" if name == "segment_ids" else name for name in node.input]


def fix_batch(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2


def drop_logits(model: onnx.ModelProto) -> None:
    del model.graph.output[0]


@pytest.mark.parametrize("change", [rename_input, fix_batch, drop_logits])
def test_a_graph_that_is_not_what_its_manifest_says_is_refused(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    folder = write_bundle(tmp_path / "bundle", change=change)
    with pytest.raises(ModelError, match="export the model again"):
        open_session(folder, provider="cpu")


def test_more_logits_than_labels_are_refused(tmp_path: Path) -> None:
    graph = make_graph(POLARITY).SerializeToString()
    folder = write_bundle(
        tmp_path / "bundle", type(POLARITY)("class", ("NO", "YES")), graph_bytes=lambda _: graph
    )
    with pytest.raises(ModelError, match=r"gives 3 logits per row, .* NO, YES"):
        open_session(folder, provider="cpu")


def test_a_batch_that_fails_is_a_model_error_and_leaves_stderr_clean(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ids = np.full((2, 5), 10**6)
    with pytest.raises(ModelError, match="2 rows of 5 tokens"):
        open_session(folder, provider="cpu").run(Batch(ids, np.ones_like(ids), np.zeros_like(ids)))
    assert capfd.readouterr() == ("", "")


class TestExternalWeights:
    """Weights in other files, which ONNX Runtime opens by itself."""

    @staticmethod
    def move_kernel(location: str) -> Callable[[onnx.ModelProto], bytes]:
        """Put the classifier's kernel into a file, and return its bytes."""

        def move(model: onnx.ModelProto) -> bytes:
            kernel = next(weight for weight in model.graph.initializer if weight.name == "kernel")
            content = bytes(kernel.raw_data)
            set_external_data(kernel, location)
            kernel.ClearField("raw_data")
            kernel.data_location = TensorProto.EXTERNAL
            return content

        return move

    def test_weights_that_the_manifest_names_are_read(self, tmp_path: Path) -> None:
        plain = write_bundle(tmp_path / "plain")
        move = self.move_kernel("model.onnx.data")
        split = write_bundle(
            tmp_path / "split", change=move, files={"model.onnx.data": move(make_graph(POLARITY))}
        )
        expected = open_session(plain, provider="cpu").run(BATCH)["logits"]
        assert np.array_equal(open_session(split, provider="cpu").run(BATCH)["logits"], expected)

    @pytest.mark.parametrize("location", ["../secret.bin", "other.bin", "/etc/hostname", "./model.onnx.data"])
    def test_other_files_are_never_opened(self, tmp_path: Path, location: str) -> None:
        move = self.move_kernel(location)
        content = move(make_graph(POLARITY))
        folder = write_bundle(tmp_path / "bundle", change=move, files={"model.onnx.data": content})
        for path in (tmp_path / "secret.bin", folder / "other.bin"):
            path.write_bytes(content)
        with pytest.raises(ModelError, match=r"reads weights from .* which its manifest does not name"):
            open_session(folder, provider="cpu")

    def test_weights_inside_branches_and_attributes_are_found(self, tmp_path: Path) -> None:
        def outside(name: str) -> TensorProto:
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], raw_data=b"1234")
            set_external_data(tensor, f"{name}.bin")
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            return tensor

        constant = helper.make_node("Constant", [], ["c"], value=outside("attribute"))
        inner = helper.make_graph([constant], "inner", [], [], [outside("inner")])
        branch = helper.make_graph(
            [helper.make_node("If", ["x"], ["z"], then_branch=inner)], "branch", [], [], [outside("branch")]
        )
        graph = helper.make_graph([helper.make_node("If", ["x"], ["y"], else_branch=branch)], "g", [], [])
        (tmp_path / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
        assert external_files(tmp_path / "model.onnx") == {"attribute.bin", "inner.bin", "branch.bin"}

    def test_every_way_to_a_tensor_that_onnx_knows_is_followed(self) -> None:
        def leads(descriptor: object, seen: tuple[str, ...] = ()) -> bool:
            if descriptor.name == "TensorProto":
                return True
            return descriptor.name not in seen and any(
                leads(field.message_type, (*seen, descriptor.name))
                for field in descriptor.fields
                if field.message_type
            )

        for message, paths in TENSOR_PATHS.items():
            if message == "TensorProto":
                continue
            descriptor = getattr(onnx, message).DESCRIPTOR
            expected = {
                field.number: field.message_type.name
                for field in descriptor.fields
                if field.message_type and leads(field.message_type)
            }
            assert paths == expected, message
