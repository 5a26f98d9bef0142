"""What is said of a missing extra works where this twil comes from."""

from __future__ import annotations

import json
from importlib import metadata
from types import SimpleNamespace

import pytest

from twil.core.errors import MissingExtraError
from twil.core.installation import install_command

NEEDED = [
    "numpy>=1.26",
    'ray[data]>=2.50; extra == "ray"',
    "torch>=2.6; extra == 'train'",
    'onnx; extra == "train"',
]


def installed_from(monkeypatch: pytest.MonkeyPatch, origin: dict[str, object] | None) -> None:
    text = None if origin is None else json.dumps(origin)
    monkeypatch.setattr(metadata, "distribution", lambda _: SimpleNamespace(read_text=lambda _: text))
    monkeypatch.setattr(metadata, "requires", lambda _: NEEDED)


def test_in_a_clone_it_is_the_clones_own_command(monkeypatch: pytest.MonkeyPatch) -> None:
    installed_from(monkeypatch, {"url": "file:///clone", "dir_info": {"editable": True}})
    assert install_command("train") == "pip install -c constraints.txt -e '.[train]' in the clone"
    installed_from(monkeypatch, {"url": "file:///clone", "dir_info": {}})
    assert install_command("train") == "pip install -c constraints.txt '.[train]' in the clone"


@pytest.mark.parametrize("origin", [None, {"url": "file:///twil.whl", "archive_info": {}}])
def test_elsewhere_packages_are_named_and_never_twil(
    monkeypatch: pytest.MonkeyPatch, origin: dict[str, object] | None
) -> None:
    installed_from(monkeypatch, origin)
    assert install_command("train") == "pip install 'torch>=2.6' 'onnx'"
    assert str(MissingExtraError("ray", "--engine ray")) == (
        "--engine ray needs the extra 'ray': pip install 'ray[data]>=2.50'"
    )


def test_a_twil_that_was_never_installed_still_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    assert install_command("train") == "install twil with the extra 'train'"
