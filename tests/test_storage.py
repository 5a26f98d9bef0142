"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twil.errors import TwilError
from twil.storage import atomic_file, atomic_folder, check_vacant, check_vacant_file


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic_file(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_whole_and_only_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ("one", "two"):
        with atomic_folder(target, overwrite=True, own=["f"]) as folder:
            (folder / "f").write_text(content)
    assert (target / "f").read_text() == "two"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(TwilError, match="--force"), atomic_folder(target):
        pass


def test_a_folder_that_cannot_be_moved_in_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "f").write_text("old")
    replace = Path.replace

    def broken(self: Path, other: Path) -> Path:
        if other == target and self.name.startswith(".model-") and self.name != "folder":
            raise OSError("disk gone")
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", broken)

    def write() -> None:
        with atomic_folder(target, overwrite=True, own=["f"]) as folder:
            (folder / "f").write_text("new")

    with pytest.raises(OSError, match="disk gone"):
        write()
    assert (target / "f").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_with_anything_else_in_it_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").touch()
    with pytest.raises(TwilError, match=r"did not write there \(thesis\.odt\)"):
        check_vacant(tmp_path, overwrite=True, own=["model.onnx"])


def test_a_missing_parent_is_named_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(TwilError, match="mkdir -p"), atomic_file(tmp_path / "no" / "f"):
        pass


def test_taken_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(TwilError, match="is a file"):
        check_vacant(tmp_path / "f", overwrite=True)
    with pytest.raises(TwilError, match="is a folder"):
        check_vacant_file(tmp_path, overwrite=True)
    with pytest.raises(TwilError, match="there already"):
        check_vacant_file(tmp_path / "f")
    with pytest.raises(TwilError, match="is no name for an output"):
        check_vacant_file("")


def test_a_folder_that_nothing_can_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: object) -> str:
        raise PermissionError("Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    said = r"bundle cannot be written \(Permission denied\)"
    with pytest.raises(TwilError, match=said), atomic_folder(tmp_path / "bundle"):
        pass


def test_a_folder_that_takes_no_files_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    for check in (check_vacant, check_vacant_file):
        with pytest.raises(TwilError, match=r"page cannot be written .*: choose another folder"):
            check(tmp_path / "page")


def test_a_device_or_pipe_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for check in (check_vacant, check_vacant_file):
        with pytest.raises(TwilError, match="device or a pipe"):
            check(pipe, overwrite=True)
    with pytest.raises(TwilError, match="device or a pipe"), atomic_file(pipe):
        pass
    with pytest.raises(TwilError, match="device or a pipe"), atomic_folder(pipe, overwrite=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_descriptor_is_no_output(path: str) -> None:
    if not Path(path).exists():
        pytest.skip("this system has no such names")
    with pytest.raises(TwilError, match="device or a pipe"):
        check_vacant_file(path, overwrite=True)


def test_a_link_stays_and_the_file_behind_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "page").write_text("antes", encoding="utf-8")
    link = tmp_path / "page"
    link.symlink_to("there/page")
    with atomic_file(link) as temporary:
        temporary.write_text("después", encoding="utf-8")
    assert link.is_symlink()
    assert (tmp_path / "there" / "page").read_text(encoding="utf-8") == "después"
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["page"]


def test_a_file_that_the_system_refuses_is_called_by_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / f"{'a' * 250}.md"  # as such it fits; the temporary name beside it does not
    with pytest.raises(TwilError) as caught, atomic_file(path) as temporary:
        temporary.write_text("hola", encoding="utf-8")
    assert str(caught.value).startswith(f"{path} cannot be written (")
    assert list(tmp_path.iterdir()) == []


def test_errors_of_other_files_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "page.md"):
        (tmp_path / "absent").read_text(encoding="utf-8")
