"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from locks import held

from twil.core.errors import BusyError, TwilError
from twil.core.interruption import check_state
from twil.core.storage import (
    atomic_file,
    atomic_folder,
    check_vacant,
    check_vacant_file,
    reserved_files,
    reserved_folder,
    sole_writer,
)


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


def test_an_old_folder_that_cannot_be_put_back_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, replace = tmp_path / "model", Path.replace
    target.mkdir()
    (target / "f").write_text("antes", encoding="utf-8")

    def broken(self: Path, other: Path) -> Path:
        if other == target:
            raise OSError("disk gone")
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="disk gone"), atomic_folder(target, overwrite=True, own=["f"]):
        pass
    (kept,) = tmp_path.glob(".model-old-*/folder/f")
    assert kept.read_text(encoding="utf-8") == "antes"


@pytest.mark.parametrize("there", [False, True])
def test_a_place_that_the_system_refuses_at_the_end_costs_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    target, replace = tmp_path / "model", Path.replace
    if there:
        target.mkdir()

    def busy(self: Path, other: Path) -> Path:
        if target in (self, other):
            raise OSError(errno.EBUSY, "Device or resource busy")
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", busy)
    refused = pytest.raises(TwilError, match=r"model cannot be written \(.* busy\): what .* in .*/model-2$")
    with refused, reserved_folder(target), atomic_folder(target) as temporary:
        (temporary / "f").write_text("nuevo", encoding="utf-8")
    assert (tmp_path / "model-2" / "f").read_text(encoding="utf-8") == "nuevo"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"] * there + ["model-2"]


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
    def refuse(path: Path, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    said = r"bundle cannot be written \(Permission denied\)"
    with pytest.raises(TwilError, match=said), atomic_folder(tmp_path / "bundle"):
        pass


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_where_a_disk_is_full_the_output_is_named_and_nothing_is_left(tmp_path: Path, kind: str) -> None:
    made = atomic_file(tmp_path / "out") if kind == "file" else atomic_folder(tmp_path / "out")
    said = r"out cannot be written \(No space left on device\): make room there"
    with pytest.raises(TwilError, match=said), made:
        raise OSError(errno.ENOSPC, "No space left on device")  # by a writer that knows no name
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("reserved", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_a_link_stays_and_the_folder_behind_it_is_written(
    tmp_path: Path, there: bool, reserved: bool
) -> None:
    disk, link = tmp_path / "disk", tmp_path / "model"
    disk.mkdir()
    link.symlink_to("disk/v1")
    if there:
        (disk / "v1").mkdir()
        (disk / "v1" / "f").write_text("antes", encoding="utf-8")
    with reserved_folder(link, overwrite=there, own=["f"]) if reserved else nullcontext():  # noqa: SIM117
        with atomic_folder(link, overwrite=there, own=["f"]) as temporary:
            (temporary / "f").write_text("después", encoding="utf-8")
    assert link.is_symlink()
    assert (disk / "v1" / "f").read_text(encoding="utf-8") == "después"
    assert [path.name for path in disk.iterdir()] == ["v1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "model"]


def test_a_link_into_a_folder_that_is_not_there_costs_no_work(tmp_path: Path) -> None:
    link = tmp_path / "model"
    link.symlink_to("no/v1")
    for hold in (reserved_folder, atomic_folder, reserved_files, atomic_file):
        with pytest.raises(TwilError, match=rf"mkdir -p {tmp_path}/no\)"), hold(link):
            pytest.fail("the work begins")


def test_a_file_that_the_system_refuses_is_called_by_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / f"{'a' * 250}.md"  # as such it fits; the temporary name beside it does not
    with pytest.raises(TwilError) as caught, atomic_file(path) as temporary:
        temporary.write_text("hola", encoding="utf-8")
    assert str(caught.value).startswith(f"{path} cannot be written (")
    assert list(tmp_path.iterdir()) == []


def test_errors_of_other_files_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "page.md"):
        (tmp_path / "absent").read_text(encoding="utf-8")


def test_links_that_lead_in_a_circle_are_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "page.md").symlink_to("page.md")
    with reserved_files(tmp_path / "page.md"), atomic_file(tmp_path / "page.md") as temporary:
        temporary.write_text("hola", encoding="utf-8")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == "hola"


@pytest.mark.parametrize(
    "other",
    [
        lambda output: output,
        lambda output: Path(os.path.relpath(output)),
        lambda output: output.parent / "x" / ".." / "model",
        lambda output: output.parent / "link",
        lambda output: output.parent / "x" / "around" / "model",
    ],
)
def test_an_output_has_one_writer_whatever_leads_to_it(tmp_path: Path, other: Callable[[Path], Path]) -> None:
    output = tmp_path / "model"
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to("model")
    (tmp_path / "x" / "around").symlink_to(tmp_path)
    for taken, refused in ((output, other(output)), (other(output), output)):
        with sole_writer(taken), sole_writer(tmp_path / "model2"), sole_writer(tmp_path / "x" / "model"):
            said = f"another process is writing {refused}: wait for it, or choose another output"
            with pytest.raises(TwilError) as caught, sole_writer(refused):
                pass
            assert str(caught.value) == said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "x"]


def test_whoever_ends_lets_go_and_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "model"
    for error in (KeyboardInterrupt, SystemExit, OSError, TwilError):
        with pytest.raises(error), sole_writer(output):
            raise error
        with sole_writer(output):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_lets_go_and_what_it_left_is_removed(tmp_path: Path) -> None:
    output = tmp_path / "model"
    program = "import sys, twil.core.storage as s\nwith s.sole_writer(sys.argv[1]): print(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-uc", program, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(TwilError, match="another process is writing"), sole_writer(output):
            pass
        process.kill()
    assert (tmp_path / ".model.lock").exists()
    with sole_writer(output):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("times", "taken"), [(1, True), (3, True), (1000, False)])
def test_a_lock_that_is_removed_just_when_it_is_taken_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, taken: bool
) -> None:
    lock, removals = tmp_path / ".model.lock", []
    flock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        if len(removals) < times:
            removals.append(lock.unlink())
        flock(descriptor, operation)

    with monkeypatch.context() as patch, ExitStack() as stack:
        patch.setattr("twil.core.storage.fcntl.flock", late)
        if not taken:
            stack.enter_context(pytest.raises(TwilError, match="another process is writing"))
        stack.enter_context(sole_writer(tmp_path / "model"))
        patch.undo()
        with pytest.raises(BlockingIOError), held(tmp_path / "model"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("twil.core.storage.fcntl.flock", refuse)
    with reserved_folder(tmp_path / "model"), reserved_folder(tmp_path / "model"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_locks_of_windows_have_one_holder_and_their_file_is_closed_before_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stand-in for `msvcrt`, whose lock is on one byte of an open file and raises `PermissionError`."""
    locked: dict[tuple[int, int], int] = {}

    def locking(descriptor: int, mode: int, size: int) -> None:
        held = os.fstat(descriptor)
        file = (held.st_dev, held.st_ino)
        assert size == 1
        if mode == 0:
            assert locked.pop(file) == descriptor
        elif file in locked:
            raise PermissionError(errno.EACCES, "Permission denied")
        else:
            locked[file] = descriptor

    def unlink(path: Path, missing_ok: bool = False) -> None:
        assert not locked, "Windows removes no open file"
        remove(path)

    remove = os.unlink
    monkeypatch.setattr("twil.core.storage.fcntl", None)
    monkeypatch.setattr("twil.core.storage.msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2, LK_UNLCK=0))
    monkeypatch.setattr(Path, "unlink", unlink)
    for _ in range(2):
        with sole_writer(tmp_path / "model") as sure:
            assert sure
            with pytest.raises(BusyError), sole_writer(tmp_path / "model"):
                pass
        assert not locked
        assert list(tmp_path.iterdir()) == []


def test_a_lock_that_the_system_refuses_is_one_line_and_a_folder_is_locked_itself(tmp_path: Path) -> None:
    output = tmp_path / "model"
    (tmp_path / ".model.lock").mkdir()  # as if nothing could be written beside it
    said = rf"^{output} cannot be written \(Is a directory: {tmp_path}/\.model\.lock\): choose another"
    with pytest.raises(TwilError, match=said), sole_writer(output):
        pass
    output.mkdir()
    again = pytest.raises(TwilError, match="another process is writing")
    with sole_writer(output), again, sole_writer(output):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.lock", "model"]
    with pytest.raises(TwilError, match="mkdir -p"), sole_writer(tmp_path / "no" / "model"):
        pass


def test_a_device_or_pipe_has_no_lock(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TwilError, match="device or a pipe"), sole_writer(tmp_path / "pipe"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_what_is_there_is_found_when_the_place_is_taken_and_the_place_is_free_again(tmp_path: Path) -> None:
    page, other = tmp_path / "a.md", tmp_path / "b.md"
    page.touch()
    for _ in range(2):
        taken = pytest.raises(TwilError, match=r"a\.md is there already")
        with taken, reserved_files(other, page):
            pass
    with reserved_files(other, page, overwrite=True), atomic_file(page) as temporary:
        temporary.write_text("nuevo", encoding="utf-8")
    assert page.read_text(encoding="utf-8") == "nuevo"
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize(
    ("name", "kept"), [("page.md", ["page-2.md", "page-3.md"]), ("page", ["page-2", "page-3"])]
)
def test_a_file_that_has_appeared_stays_and_the_new_one_is_kept_beside_it(
    tmp_path: Path, name: str, kept: list[str]
) -> None:
    output = tmp_path / name

    def write(text: str) -> None:
        with reserved_files(output):
            output.write_text("ajeno", encoding="utf-8")
            with atomic_file(output) as temporary:
                temporary.write_text(text, encoding="utf-8")

    for other in kept:
        output.unlink(missing_ok=True)
        with pytest.raises(TwilError) as caught:
            write(f"propio de {other}")
        assert str(caught.value).endswith(f"it is not replaced: what was made is in {tmp_path / other}")
        assert output.read_text(encoding="utf-8") == "ajeno"
        assert (tmp_path / other).read_text(encoding="utf-8") == f"propio de {other}"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, *kept])


def test_a_folder_where_a_file_was_to_be_costs_no_work(tmp_path: Path) -> None:
    page = tmp_path / "page.md"

    def write() -> None:
        with reserved_files(page, overwrite=True):
            page.mkdir()
            with atomic_file(page) as temporary:
                temporary.write_text("nuevo", encoding="utf-8")

    with pytest.raises(TwilError, match=r"what was made is in .*/page-2\.md$"):
        write()
    assert (tmp_path / "page-2.md").read_text(encoding="utf-8") == "nuevo"
    assert page.is_dir()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("reserved", [False, True])
def test_a_folder_that_has_appeared_stays_and_the_new_one_is_kept_beside_it(
    tmp_path: Path, overwrite: bool, reserved: bool
) -> None:
    output = tmp_path / "model.v1"

    def write() -> None:
        with reserved_folder(output, overwrite=overwrite, own=["f"]) if reserved else nullcontext():
            if reserved:  # then even before the writing begins
                output.mkdir()
                (output / "tesis.odt").touch()
            with atomic_folder(output, overwrite=overwrite, own=["f"]) as temporary:
                (temporary / "f").write_text("nuevo", encoding="utf-8")
                output.mkdir(exist_ok=True)
                (output / "tesis.odt").touch()

    with pytest.raises(TwilError, match=r"what was made is in .*/model\.v1-2$"):
        write()
    assert [path.name for path in output.iterdir()] == ["tesis.odt"]
    assert (tmp_path / "model.v1-2" / "f").read_text(encoding="utf-8") == "nuevo"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.v1", "model.v1-2"]


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_files_may_be_read_by_whom_the_umask_says(
    tmp_path: Path, mask: int, file_mode: int, folder_mode: int
) -> None:
    before = os.umask(mask)
    try:
        with atomic_folder(tmp_path / "model") as folder:
            (folder / "plain").touch()
            (folder / "secret").touch(0o600)  # as writers of weights do
        with atomic_file(tmp_path / "file") as file:
            file.touch()
    finally:
        os.umask(before)
    made = [tmp_path / "model" / "plain", tmp_path / "model" / "secret", tmp_path / "file"]
    assert [path.stat().st_mode & 0o777 for path in made] == [file_mode] * 3
    assert (tmp_path / "model").stat().st_mode & 0o777 == folder_mode


# --- what others leave or plant ------------------------------------------------------------------------


def test_what_killed_runs_left_is_removed_by_the_next_run_of_that_output(tmp_path: Path) -> None:
    left = [".out-17-0123abcd", ".17-0123abcd.out"]
    others = [".other-17-0123abcd", ".17-0123abcd.other", ".out-settings", ".out-old-x", "out-17-0123abcd"]
    for name in (*left, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").touch()
    (tmp_path / ".18-0123abcd.out").symlink_to(tmp_path / others[0])
    with reserved_folder(tmp_path / "out"), atomic_folder(tmp_path / "out") as folder:
        (folder / "f").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["out", *others])
    assert (tmp_path / others[0] / "f").exists()
    for name in (".v.json-17-0123abcd", ".17-0123abcd.v.json"):
        (tmp_path / name).touch()
    with reserved_files(tmp_path / "v.json"), atomic_file(tmp_path / "v.json") as file:
        file.touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["out", "v.json", *others])


def test_what_a_run_is_at_work_on_is_not_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with reserved_folder(out), atomic_folder(out) as folder:
        with pytest.raises(TwilError, match="another process is writing"), reserved_folder(out):
            pass
        assert folder.is_dir()
        (folder / "f").touch()
    assert (out / "f").exists()


def test_outputs_of_one_name_that_lead_elsewhere_leave_each_other_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    outputs = []
    for name in "ab":
        (tmp_path / name).mkdir()
        outputs.append(tmp_path / name / "out.tsv")
        outputs[-1].symlink_to(data / f"{name}.tsv")
    with sole_writer(outputs[0]), atomic_file(outputs[0]) as first:
        assert first.suffix == ".tsv"
        first.write_text("uno", encoding="utf-8")
        with sole_writer(outputs[1]), atomic_file(outputs[1]) as second:
            second.write_text("dos", encoding="utf-8")
    assert [output.read_text(encoding="utf-8") for output in outputs] == ["uno", "dos"]
    assert sorted(path.name for path in data.iterdir()) == ["a.tsv", "b.tsv"]


def test_where_there_are_no_locks_nothing_of_others_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".out-17-0123abcd").mkdir()
    with sole_writer(tmp_path / "out") as held:
        assert not held
    assert (tmp_path / ".out-17-0123abcd").is_dir()


@pytest.mark.parametrize("kind", ["pipe", "link", "link to nothing", "folder"])
def test_what_is_no_file_in_the_place_of_a_lock_is_neither_followed_nor_waited_for(
    tmp_path: Path, kind: str
) -> None:
    lock, other = tmp_path / ".out.lock", tmp_path / "other"
    if kind == "pipe":
        os.mkfifo(lock)
    elif kind == "folder":
        lock.mkdir()
    else:
        lock.symlink_to(other)
    if kind == "link":
        other.write_text("mine", encoding="utf-8")
    with pytest.raises(TwilError, match=r"\.out\.lock.*choose another output"), sole_writer(tmp_path / "out"):
        pass
    assert other.exists() == (kind == "link")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_state_that_is_a_link_or_a_pipe_is_refused(tmp_path: Path, kind: str, inside: bool) -> None:
    root = tmp_path / "out.state"
    place = root / "part-1.npz" if inside else root
    place.parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(place)
    else:
        (tmp_path / "else").mkdir()
        place.symlink_to(tmp_path / "else")
    with pytest.raises(TwilError, match=r"out\.state"):
        check_state(root, [re.compile(r"part-\d+\.npz")])
