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


def installed_from(monkeypatch: pytest.MonkeyPatch, *origins: dict[str, object] | None) -> None:
    found = [
        SimpleNamespace(requires=NEEDED, read_text=lambda _, origin=origin: origin and json.dumps(origin))
        for origin in origins
    ]
    monkeypatch.setattr(metadata, "distributions", lambda name: found)


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


def test_what_a_build_left_in_the_current_folder_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    installed_from(monkeypatch, None, {"url": "file:///clone", "dir_info": {}})
    assert install_command("train") == "pip install -c constraints.txt '.[train]' in the clone"


def test_a_twil_that_was_never_installed_still_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    installed_from(monkeypatch)
    assert install_command("train") == "install twil with the extra 'train'"
