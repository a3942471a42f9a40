"""Files are written wholly or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bilstm.errors import UserError
from bilstm.files import GrowingFile, check_readable, check_writable, discard, locked, replacing, temporary

pytestmark = pytest.mark.fast


def test_what_was_written_takes_the_place_of_the_file(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("before")
    target.chmod(0o640)
    with replacing(target) as temporary:
        temporary.write_text("after")
        assert target.read_text() == "before"
    assert target.read_text() == "after"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_everything_as_it_was(tmp_path: Path, failure: type[BaseException]) -> None:
    target = tmp_path / "out.txt"
    target.write_text("before")

    def write_and_fail() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        write_and_fail()
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("before")
    link.symlink_to(real)
    with replacing(link) as temporary:
        temporary.write_text("after")
    assert link.is_symlink()
    assert real.read_text() == "after"


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    check_writable(target)
    with replacing(target) as temporary:
        temporary.write_text("x")
    assert target.read_text() == "x"


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "out.txt")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "it is a folder; give the name of a file"),
        ("nowhere/out.txt", "nowhere does not exist"),
        ("input.csv", "it is being read; give another name"),
        ("./link.csv", "it is being read; give another name"),
        ("n" * 256, "file name too long"),
        ("input.csv/out.txt", "input.csv does not exist"),
    ],
)
def test_what_cannot_be_written_is_said_at_once(tmp_path: Path, name: str, message: str) -> None:
    source = tmp_path / "input.csv"
    source.write_text("x")
    (tmp_path / "link.csv").symlink_to(source)
    with pytest.raises(UserError, match=message):
        check_writable(tmp_path / name, inputs=[source])


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="there are no device files")
def test_a_device_is_not_replaced() -> None:
    with pytest.raises(UserError, match="it is not an ordinary file"):
        check_writable("/dev/null")


def test_a_missing_file_is_named_with_one_like_it(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("x")
    with pytest.raises(UserError, match=r"there is no file .*trian\.csv\. Did you mean 'train\.csv'\?"):
        check_readable(tmp_path / "trian.csv")


def abandoned(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith(".partial")]


KILLED = """
import os, signal, sys
from bilstm.files import replacing

with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows has no locks of folders")
@pytest.mark.parametrize("again", ["check", "write"])
def test_what_a_killed_process_left_is_removed(tmp_path: Path, again: str) -> None:
    for name in ("out.txt", "other.txt", "out.txt"):
        subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)], check=False)
    assert len(abandoned(tmp_path)) == 2  # the third has removed the first's
    if again == "check":
        check_writable(tmp_path / "out.txt")
    else:
        with replacing(tmp_path / "out.txt") as temporary:
            assert len(abandoned(tmp_path)) == 1
            temporary.write_text("whole")
    assert len(abandoned(tmp_path)) == 1
    check_writable(tmp_path / "other.txt")
    assert abandoned(tmp_path) == []


def test_what_is_being_written_is_not_removed(tmp_path: Path) -> None:
    """By another process or thread to the same file, or to another one in the folder."""
    target = tmp_path / "out.txt"
    with replacing(target) as first:
        first.write_text("first")
        with replacing(target) as second:
            second.write_text("second")
            check_writable(target)
            check_writable(tmp_path / "other.txt")
            assert len(abandoned(tmp_path)) == 2
        assert target.read_text() == "second"
    assert target.read_text() == "first"
    assert os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no locks of folders")
def test_a_writer_waits_for_who_cleans_up(tmp_path: Path) -> None:
    """Otherwise it would write without a lock, and the next who cleans up would remove its file."""
    with contextlib.ExitStack() as cleaning:
        assert cleaning.enter_context(locked(tmp_path, alone=True))
        end = threading.Timer(0.05, cleaning.close)
        end.start()
        with replacing(tmp_path / "out.txt") as temporary:
            temporary.write_text("whole")
            end.join()
            check_writable(tmp_path / "out.txt")  # cleans up
    assert os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no locks of folders")
def test_who_locks_a_folder_for_good_stops_no_writer(tmp_path: Path) -> None:
    with locked(tmp_path, alone=True), replacing(tmp_path / "out.txt") as temporary:
        temporary.write_text("whole")
    assert os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("links", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_a_circle_of_links_is_refused_and_stays(tmp_path: Path, links: list[str]) -> None:
    for name, other in zip(links, [*links[1:], links[0]], strict=True):
        (tmp_path / name).symlink_to(tmp_path / other)
    message = "cannot write .*a: too many levels of symbolic links"
    with pytest.raises(UserError, match=message):
        check_writable(tmp_path / "a")
    with pytest.raises(UserError, match=message), replacing(tmp_path / "a"):
        pass
    assert sorted(os.listdir(tmp_path)) == links
    assert (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_growing_file_replaces_with_its_first_piece(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "out"
    if old is not None:
        path.write_bytes(old)
    file = GrowingFile(path)
    assert path.exists() == (old is not None)
    for number in range(3):
        file.add(b"piece %d\n" % number)
        assert path.read_bytes() == b"".join(b"piece %d\n" % n for n in range(number + 1))
    path.rename(tmp_path / "moved")
    file.add(b"new")
    file.finish()
    assert path.read_bytes() == b"new"
    other = GrowingFile(path)
    other.finish()
    assert path.read_bytes() == b""
    assert sorted(os.listdir(tmp_path)) == ["moved", "out"]


def test_a_piece_that_cannot_be_written_leaves_no_half(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    script = """
import resource, signal, sys
from bilstm.files import GrowingFile

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (25, 25))
file = GrowingFile(sys.argv[1])
try:
    for _ in range(4):
        file.add(b"ten bytes\\n")
except ValueError as error:
    print(error)
"""
    path = tmp_path / "out"
    ran = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == (f"cannot write {path}: file too large\n", "")
    assert path.read_bytes() == b"ten bytes\n" * 2


def test_what_was_not_removed_is_removed_when_the_process_ends(tmp_path: Path) -> None:
    """But not by a process that was forked meanwhile."""
    script = """
import os, sys
from pathlib import Path
from bilstm.files import temporary

folder = Path(sys.argv[1])
temporary(folder / "file").write_text("x")
temporary(folder / "folder").mkdir()
(folder / "folder" / "inside").write_text("x")
temporary(folder / "never made")
if os.fork() == 0:
    sys.exit()
os.wait()
print(sorted(os.listdir(folder)))
"""
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("['file', 'folder']\n", "")
    assert os.listdir(tmp_path) == []


def test_discarding_removes_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    temporary(tmp_path / "link").symlink_to(tmp_path / "kept")
    discard(tmp_path / "link")
    assert os.listdir(tmp_path) == ["kept"]
