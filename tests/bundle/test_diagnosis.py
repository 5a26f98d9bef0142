"""The diagnosis: it finds what a session would find, says so, and keeps quiet otherwise."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import onnxruntime
import pytest
from bundles import write_bundle

from twil.bundle import diagnosis, providers, runtime
from twil.bundle.bundle import open_bundle
from twil.bundle.diagnosis import diagnose
from twil.bundle.session import Session
from twil.core import errors
from twil.core.errors import ProviderError

CUDA, CPU = providers.CUDA, runtime.CPU


class MixedUp:
    """A finder for which importing ONNX Runtime fails in the middle, as where two wheels share a folder."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "onnxruntime":
            raise AttributeError("module 'onnxruntime.capi' has no attribute 'Session'")


def mix_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.setattr(sys, "meta_path", [MixedUp(), *sys.meta_path])


def leave_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave of ONNX Runtime the folder that an uninstalled wheel may leave: an empty module."""
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))


def test_the_cpu_loads_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert diagnose().providers[CPU] == ""
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("devices", [0, 1])
@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="CUDA may really load here")
def test_diagnosis_and_session_name_the_same_obstacle_to_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], devices: int
) -> None:
    said = "Failed to load libcudnn.so.9: cannot open shared object file"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print(said), raising=False)  # noqa: T201
    monkeypatch.setattr(providers, "count_devices", lambda: devices)
    session = Session(open_bundle(write_bundle(tmp_path / "bundle")))
    found = diagnose().providers
    found.pop(providers.OPENVINO, None)  # where its extra is installed
    assert found == {CUDA: session.reason, CPU: ""}
    assert ("libcudnn.so.9" in session.reason) == bool(devices)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("damage", [mix_up, leave_a_shell])
def test_a_runtime_that_does_not_import_is_a_fault_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: object
) -> None:
    bundle = open_bundle(write_bundle(tmp_path / "bundle"))
    damage(monkeypatch)  # type: ignore[operator]
    found = diagnose()
    assert found.providers == {}
    assert any("cannot be imported (" in fault and "has no attribute" in fault for fault in found.faults)
    with pytest.raises(ProviderError, match=r"cannot be imported .*: pip uninstall -y onnxruntime"):
        Session(bundle)


def test_the_tables_of_extras_are_those_of_the_project_file() -> None:
    root = Path(__file__).resolve().parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}

    extras = {extra: names(packages) for extra, packages in project["optional-dependencies"].items()}
    del extras["dev"]
    assert {extra: set(packages) for extra, packages in diagnosis.EXTRAS.items()} == extras
    assert set(diagnosis.BASE) == names(project["dependencies"])
    for module, extra in errors.EXTRAS.items():
        assert {module.replace("_", "-"), f"{module}-skinny"} & extras[extra]
