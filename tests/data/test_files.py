"""Writing so that nothing is half there: failures, interrupts, kills, links and names."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from embbert_tvm.data.files import folder_in_place, write_atomically
from embbert_tvm.errors import EmbbertError, InputError


def test_a_failed_write_leaves_nothing(tmp_path):
    class Stop(Exception):
        pass

    output = tmp_path / "model"
    with folder_in_place(output) as new:
        (new / "a").write_text("old")

    def fail() -> None:
        with folder_in_place(output) as new:
            (new / "a").write_text("new")
            raise Stop

    with pytest.raises(Stop):
        fail()
    assert (output / "a").read_text() == "old"
    with folder_in_place(output) as new:
        (new / "b").write_text("new")
    assert [x.name for x in output.iterdir()] == ["b"]
    assert [x.name for x in tmp_path.iterdir()] == ["model"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "x", b"")
    assert sorted(x.name for x in tmp_path.iterdir()) == ["file", "model"]


@pytest.mark.parametrize(
    "write", [lambda path: folder_in_place(path).__enter__(), lambda path: write_atomically(path, b"x")]
)
def test_an_interrupt_at_the_first_moment_leaves_nothing(tmp_path, monkeypatch, write):
    """The signal comes as soon as there is a file, before the call that made it has returned."""

    interrupts = []

    def interrupted(made):
        def call(path, *arguments, **options):
            result = made(path, *arguments, **options)
            if not interrupts and Path(path).name.startswith("."):
                interrupts.append(path)
                raise KeyboardInterrupt
            return result

        return call

    for name in ("mkdir", "open"):
        monkeypatch.setattr(os, name, interrupted(getattr(os, name)))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "output")
    assert list(tmp_path.iterdir()) == []


def leave(command: str, *arguments: object) -> None:
    """Run Python that kills itself, as `kill -9` does, at the place where it says so."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from embbert_tvm.data import files\n"
        "def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"path = Path(sys.argv[1])\n{command}\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


KILLED = {
    "in the folder": "with files.folder_in_place(path) as new:\n (new / 'a').write_text('half')\n die()",
    "after the exchange": "files.shutil.rmtree = die\nwith files.folder_in_place(path) as new:\n"
    " (new / 'a').write_text('new')",
    "between two renames": "files._exchange = lambda *_: False\nreplace = os.replace\n"
    "os.replace = lambda a, b: die() if b == path else replace(a, b)\n"
    "with files.folder_in_place(path) as new:\n (new / 'a').write_text('half')",
    "in a file": "os.replace = die\nfiles.write_atomically(path / 'a', b'half')",
}


@pytest.mark.parametrize("moment", KILLED)
def test_what_a_killed_process_left_is_taken_away_by_the_next(moment, tmp_path):
    output = tmp_path / "model"
    output.mkdir()
    (output / "a").write_text("old")
    leave(KILLED[moment], output)
    assert len(list(tmp_path.rglob("*"))) > 2
    if moment != "between two renames":
        assert (output / "a").read_text() == ("new" if moment == "after the exchange" else "old")
    write_atomically(output / "a", b"last")
    with folder_in_place(output) as new:
        assert (output / "a").read_text() == "last"
        (new / "a").write_text("whole")
    assert [str(x.relative_to(tmp_path)) for x in sorted(tmp_path.rglob("*"))] == ["model", "model/a"]


def test_what_another_process_writes_now_is_left_alone(tmp_path):
    output = tmp_path / "model"
    with folder_in_place(output) as first:
        with folder_in_place(output) as second:
            (second / "a").write_text("second")
        (first / "a").write_text("first")
    assert (output / "a").read_text() == "first"
    assert [x.name for x in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("target", ["there", "not yet"])
def test_an_output_that_is_a_link_stays_one(target, tmp_path):
    link, folder = tmp_path / "link", tmp_path / "folder"
    link.symlink_to("folder")
    if target == "there":
        folder.mkdir()
    with folder_in_place(link) as new:
        (new / "a").write_text("new")
    (tmp_path / "file").symlink_to("folder/b")
    write_atomically(tmp_path / "file", b"content")
    assert link.is_symlink()
    assert (tmp_path / "file").is_symlink()
    assert {x.name: x.read_text() for x in folder.iterdir()} == {"a": "new", "b": "content"}


@pytest.mark.parametrize("name", [".", "..", "/", "/proc", "loop", "file", "file/x", "x" * 300])
def test_outputs_that_no_folder_can_take_the_place_of(name, tmp_path, monkeypatch):
    inside = tmp_path / "here" / "deeper"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    (inside / "loop").symlink_to("loop")
    (inside / "file").write_text("")
    with pytest.raises(InputError, match=r"name|cannot be written"):
        folder_in_place(Path(name)).__enter__()
    assert sorted(x.name for x in inside.iterdir()) == ["file", "loop"]


def test_names_as_long_as_a_file_system_takes(tmp_path):
    name = "é" * 127
    write_atomically(tmp_path / name, b"x")
    with folder_in_place(tmp_path / f"{name[:-1]}z") as new:
        (new / "a").write_text("new")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_device_is_written_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", b"content")
    assert os.read(reader, 100) == b"content"
    os.close(reader)


@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, 1), (errno.EROFS, 1), (errno.EACCES, 2)])
def test_a_disk_that_is_full_is_no_fault_of_the_usage(number, status, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(EmbbertError, match=f"{tmp_path}/x: cannot be written") as caught:
        write_atomically(tmp_path / "x", b"")
    assert caught.value.exit_status == status
