"""Files in stores, by addresses: whatever reads or predicts gives the same bytes as with files on this machine.

The store is fsspec's own in memory; `make test-slow` also has one that speaks S3.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import bilstm
from bilstm.data import stores
from bilstm.data.paths import placed_files, table_files
from bilstm.data.reading import column_names
from bilstm.data.stores import StoredPath, as_path
from bilstm.distributed import Predictor
from bilstm.errors import UserError
from bilstm.model.manifest import FINISHED
from test_distributed_prediction import make_lake, new_table
from test_fronts import CASES, flags, long_table, options_of, run, trained_bytes, write

TOP = "memory://top"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and a lake of seven files."""
    folder = tmp_path_factory.mktemp("stores")
    (folder / "model").write_bytes(trained_bytes("step-label", "lists", folder))
    make_lake(folder / "lake")
    return folder


@pytest.fixture
def store(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    """A store in memory with the model and the lake; local copies are made in a folder of the test's own."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    system.put(str(folder / "lake"), "/top/lake", recursive=True)
    system.put_file(str(folder / "model"), "/top/model")
    yield system
    system.store.clear()


def contents(folder: Path) -> dict[str, bytes]:
    """The files in a folder, but for those that say what is finished."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(FINISHED)
    }


def stored(system: MemoryFileSystem, folder: str) -> dict[str, bytes]:
    return {
        name.removeprefix(f"{folder}/"): system.cat_file(name) for name in system.find(folder) if FINISHED not in name
    }


# --- Reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "layout", "suffix"), CASES)
def test_every_format_and_task(
    kind: str, layout: str, suffix: str, store: MemoryFileSystem, folder: Path, tmp_path: Path
) -> None:
    """Trained and predicted by the command line, from one file: the same model and the same predictions."""
    from test_fronts import LAYOUTS

    local = write(LAYOUTS[layout].make(long_table(kind, 12, seed=0), kind), tmp_path / f"train{suffix}")
    store.put_file(str(local), f"/top/train{suffix}")
    for name, table in (("local", local), ("stored", f"{TOP}/train{suffix}")):
        chosen = flags(options_of(kind, layout))
        run("train", table, *chosen, "--no-baseline", "--quiet", "--out", tmp_path / name)
        run("predict", tmp_path / name, table, "--quiet", "--out", tmp_path / f"{name}{suffix}")
    assert (tmp_path / "local").read_bytes() == (tmp_path / "stored").read_bytes()
    assert (tmp_path / f"local{suffix}").read_bytes() == (tmp_path / f"stored{suffix}").read_bytes()


def test_every_front(store: MemoryFileSystem, folder: Path) -> None:
    model, stored_model = bilstm.load(folder / "model"), bilstm.load(f"{TOP}/model")
    expected = model.predict(folder / "lake" / "a")
    for data in (f"{TOP}/lake/a", f"{TOP}/lake/a/*.parquet", StoredPath(f"{TOP}/lake/a")):
        assert (stored_model.predict(data) == expected).all()
    one = folder / "lake" / "a" / "part-0.parquet"
    stored_one = f"{TOP}/lake/a/part-0.parquet"
    assert (model.predict(stored_one) == model.predict(one)).all()
    several = model.predict([stored_one, f"{TOP}/lake/b/part-0.parquet"])
    assert (several[: len(model.predict(one))] == model.predict(one)).all()
    table = new_table("step-label", "lists")
    predictor = pickle.loads(pickle.dumps(Predictor(f"{TOP}/model")))
    assert predictor.path == f"{TOP}/model"
    assert predictor(table).equals(Predictor(folder / "model")(table))
    fitted = [
        bilstm.SequenceTagger(units=2, layers=1, epochs=1, baseline=False, random_state=1).fit(each, "state")
        for each in (one, stored_one)
    ]
    assert (fitted[0].predict(one) == fitted[1].predict(stored_one)).all()


def test_evaluate_and_inspect(store: MemoryFileSystem, folder: Path, tmp_path: Path) -> None:
    write(new_table("step-label", "lists").to_pandas(), tmp_path / "new.parquet")
    store.put_file(str(tmp_path / "new.parquet"), "/top/new.parquet")
    for command in (["evaluate", folder / "model"], ["inspect"]):
        local, other = (
            run(*command, table, "--json").stdout for table in (tmp_path / "new.parquet", f"{TOP}/new.parquet")
        )
        assert json.loads(local.replace(str(tmp_path), TOP)) == json.loads(other)


def test_what_patterns_and_folders_stand_for(store: MemoryFileSystem, folder: Path) -> None:
    """The same files in the same order as on this machine."""
    store.pipe_file("/top/lake/.hidden.parquet", b"x")
    store.pipe_file("/top/lake/notes.pdf", b"x")
    (folder / "lake" / ".hidden.parquet").write_bytes(b"x")
    (folder / "lake" / "notes.pdf").write_bytes(b"x")
    for number in (2, 10):
        store.pipe_file(f"/top/lake/deep/er/part-{number}.csv", b"x")
        (folder / "lake" / "deep" / "er").mkdir(parents=True, exist_ok=True)
        (folder / "lake" / "deep" / "er" / f"part-{number}.csv").write_bytes(b"x")
    try:
        for pattern in "**/*.parquet", "*/part-[12].parquet", "a", "a/", "deep/er", "deep/*/*", "?/*", "d*/**/*.csv":
            local, other = (placed_files([f"{top}/lake/{pattern}"]) for top in (str(folder), TOP))
            assert [*local.values()] == [*other.values()], pattern
            assert [str(path).removeprefix(str(folder)) for path in local] == [str(p).removeprefix(TOP) for p in other]
    finally:
        for name in (".hidden.parquet", "notes.pdf", "deep/er/part-2.csv", "deep/er/part-10.csv"):
            (folder / "lake" / name).unlink()
    assert table_files(f"{TOP}/lake/a/part-0.parquet")[1] is False
    assert column_names(f"{TOP}/lake/a/part-0.parquet") == pq.read_schema(folder / "lake/a/part-0.parquet").names


def test_a_file_address_is_a_path(folder: Path) -> None:
    path = folder / "lake" / "a b.csv"
    assert as_path(path.as_uri()) == path
    assert type(as_path(path.as_uri())) is type(path)


@pytest.mark.parametrize("folder_out", [False, True])
def test_an_address_of_this_machine_as_the_output(folder_out: bool, folder: Path, tmp_path: Path) -> None:
    table, out = (folder / "lake" / "a" / "part-0.parquet").as_uri(), tmp_path / "out" / "part-0.parquet"
    out.parent.mkdir()
    run("predict", folder / "model", table, "--out", (out.parent if folder_out else out).as_uri(), "--quiet")
    run("predict", folder / "model", folder / "lake/a/part-0.parquet", "--out", tmp_path / "x.parquet", "--quiet")
    assert out.read_bytes() == (tmp_path / "x.parquet").read_bytes()


def test_a_stored_path_is_called_by_its_address(store: MemoryFileSystem) -> None:
    path = StoredPath(f"{TOP}/lake/a/part-0.parquet")
    assert (str(path), f"{path}", repr(path)) == (path.address, path.address, f"StoredPath({path.address!r})")
    assert (path.name, path.suffix, str(path.parent)) == ("part-0.parquet", ".parquet", f"{TOP}/lake/a")
    assert str(path.parent / Path("b") / "c.csv") == f"{TOP}/lake/a/b/c.csv"
    again = pickle.loads(pickle.dumps(path))
    assert (type(again), str(again), again == path, hash(again) == hash(path)) == (StoredPath, str(path), True, True)
    assert path.read_bytes() == store.cat_file("/top/lake/a/part-0.parquet")
    assert os.path.getsize(path) == path.stat().st_size == store.size("/top/lake/a/part-0.parquet")


# --- Predictions in a store -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["local", "stored"])
@pytest.mark.parametrize("shards", [0, 2, 3])
def test_a_lake(shards: int, out: str, store: MemoryFileSystem, folder: Path, tmp_path: Path) -> None:
    """As from a folder into a folder, byte for byte; what is finished is not done again, nor fetched."""
    run("predict", folder / "model", f"{folder}/lake/**/*.parquet", "--out", tmp_path / "expected", "--quiet")
    target = tmp_path / "found" if out == "local" else f"{TOP}/found"
    command = ["predict", f"{TOP}/model", f"{TOP}/lake/**/*.parquet", "--out", target]
    parts = [["--shard", f"{shard}/{shards}"] for shard in range(1, shards + 1)] or [["--resume"]]
    for part in parts:
        run(*command, *part, "--quiet")
    found = contents(tmp_path / "found") if out == "local" else stored(store, "/top/found")
    assert found == contents(tmp_path / "expected")
    assert list((tmp_path / "scratch").iterdir()) == []
    fetched = count_fetches(store)
    assert "7 files were finished before" in run(*command, "--resume").output
    assert not [name for name in fetched if name != "/top/model" and FINISHED not in name]
    assert "7 files of 7 predicted again" in run(*command, "--verify").output

    store.cp_file("/top/lake/a/part-1.parquet", "/top/lake/a/part-0.parquet")
    assert "1 file," in run(*command, "--resume").output
    if out == "stored":
        name = "/top/found/b/part-0.parquet"
        store.pipe_file(name, store.cat_file(name) + b"x")
        assert "has no finished predictions" in run(*command, "--verify", status=2).output
        assert "is not a file of predictions" in run(*command, "--resume", status=2).output
        run(*command, "--resume", "--force")
        assert store.cat_file(name) == (tmp_path / "expected" / "b" / "part-0.parquet").read_bytes()
    gc.collect()  # errors hold what they were raised in
    assert list((tmp_path / "scratch").iterdir()) == []


def count_fetches(system: MemoryFileSystem) -> list[str]:
    """The files that are fetched from now on, as they are."""
    names = list[str]()
    original = type(system).get_file

    def get_file(self: Any, path: str, *arguments: Any, **options: Any) -> Any:
        names.append(path)
        return original(self, path, *arguments, **options)

    system.get_file = get_file.__get__(system)
    return names


def test_a_file(store: MemoryFileSystem, folder: Path, tmp_path: Path) -> None:
    table, out = f"{TOP}/lake/a/part-0.parquet", f"{TOP}/out.parquet"
    run("predict", folder / "model", folder / "lake/a/part-0.parquet", "--out", tmp_path / "out.parquet")
    run("predict", folder / "model", table, "--out", out)
    assert store.cat_file("/top/out.parquet") == (tmp_path / "out.parquet").read_bytes()
    run("predict", folder / "model", table, "--out", out)  # predictions may be replaced
    store.pipe_file("/top/out.parquet", b"something else")
    message = run("predict", folder / "model", table, "--out", out, status=2).output
    assert f"{out} exists and is not a file of predictions" in message
    run("predict", folder / "model", table, "--out", out, "--force")
    assert store.cat_file("/top/out.parquet") == (tmp_path / "out.parquet").read_bytes()
    assert "is being read" in run("predict", folder / "model", table, "--out", table, status=2).output


def half_written(path: StoredPath, error: Exception | None = None) -> None:
    with stores.writing(path) as local:
        local.write_bytes(b"half")
        if error:
            raise error


@pytest.mark.parametrize("protocol", ["memory", "s3"])
def test_a_file_is_there_as_a_whole_or_not_at_all(
    protocol: str, store: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a store's own writing may leave a half, it is of another name until it is complete."""
    names = list[str]()

    def failing(local: str, path: str) -> None:
        names.append(path)
        if protocol == "memory":
            store.pipe_file(path, b"ha")
        raise OSError("the line is cut")

    monkeypatch.setattr(store, "put_file", failing, raising=False)
    monkeypatch.setattr(stores, "_system", lambda address: (store, "/top/model"))
    before = store.cat_file("/top/model")
    with pytest.raises(UserError, match=f"cannot write {protocol}://top/model: the line is cut"):
        half_written(StoredPath(f"{protocol}://top/model"))
    assert store.cat_file("/top/model") == before
    assert (names == ["/top/model"]) == (protocol == "s3")


def test_nothing_is_put_where_writing_fails(store: MemoryFileSystem) -> None:
    with pytest.raises(KeyError):
        half_written(StoredPath(f"{TOP}/new"), KeyError())
    assert not store.exists("/top/new")


def test_a_store_without_marks_is_compared_by_content(
    store: MemoryFileSystem, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as some that speak HTTP: without a digest or a time, the files are fetched to know whether they changed."""
    monkeypatch.setattr(StoredPath, "state", lambda self: None if "/lake/" in self.address else [1, "x"])
    command = ["predict", folder / "model", f"{TOP}/lake/a", "--out", f"{TOP}/found", "--resume"]
    run(*command)
    fetched = count_fetches(store)
    assert "4 files were finished before" in run(*command).output
    assert len([name for name in fetched if "/lake/" in name]) == 4
    store.cp_file("/top/lake/a/part-1.parquet", "/top/lake/a/part-0.parquet")
    assert "1 file," in run(*command).output


# --- What is refused --------------------------------------------------------------------------------------------------


def test_messages(store: MemoryFileSystem, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.import_module("fsspec.registry").known_implementations
    monkeypatch.setitem(known, "absent", {"class": "nowhere.Store", "err": "Install nowhere to access Absent"})
    one, model, out = f"{TOP}/lake/a/part-0.parquet", folder / "model", tmp_path / "out.parquet"
    for arguments, message in (
        (["predict", model, f"{TOP}/none.parquet", "--out", out], f"there is no file {TOP}/none.parquet"),
        (["predict", f"{TOP}/none", one, "--out", out], f"there is no file {TOP}/none"),
        (["predict", model, f"{TOP}/lake/*.csv", "--out", tmp_path], f"no file matches {TOP}/lake/*.csv"),
        (["predict", model, f"{TOP}/lake/", "--out", out], f"the folder {TOP}/lake/ has no file whose name ends in"),
        (["predict", model, one, one, "--out", tmp_path], f"{one} is named twice"),
        (["predict", model, "nothing://x/y.parquet", "--out", out], "fsspec knows no store of the kind nothing://"),
        (["predict", model, "absent://x/y.parquet", "--out", out], "Install nowhere to access Absent, or mount the"),
        (
            ["predict", model, f"{TOP}/**/*.parquet", "--out", f"{TOP}/lake/out", "--resume"],
            f"cannot write into {TOP}/lake/out: {TOP}/**/*.parquet means files there, too",
        ),
        (["predict", model, f"{TOP}/lake/a", "--out", f"{TOP}/lake/a/"], "is being read; give another folder"),
        (["train", one, "--label", "state", "--out", f"{TOP}/new"], f"cannot write {TOP}/new: only predictions are"),
        (["inspect", f"{TOP}/model"], f"cannot read {TOP}/model: only tables, and models that predict, are read"),
        (["export", f"{TOP}/model", "--to", str(tmp_path / "x.onnx")], "only tables, and models that predict"),
        (["serve", f"x={TOP}/model"], f"cannot read {TOP}/model: models that are served are on this machine"),
    ):
        output = run(*arguments, status=2).output
        assert message in output, output
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    output = run("predict", model, one, "--out", out, status=2).output
    assert f"{one} is in a store: reading it needs fsspec, pip install 'bilstm[stores]', or mount the store" in output
    assert not out.exists()


def test_a_place_that_a_store_has_not(store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise FileNotFoundError("the specified bucket does not exist")

    monkeypatch.setattr(store, "put_file", refuse, raising=False)
    with pytest.raises(UserError, match=f"^cannot write {TOP}/new: the store has no such place"):
        half_written(StoredPath(f"{TOP}/new"))


def test_what_a_store_raises_is_a_message(store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    class RefusalError(Exception):
        """Of a store's own library, which is no OSError."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise RefusalError("no such key pair\nrequest 17")

    monkeypatch.setattr(store, "get_file", refuse, raising=False)
    with pytest.raises(UserError, match=f"^cannot read {TOP}/model: no such key pair$"):
        bilstm.load(f"{TOP}/model")


def test_damaged_files_are_called_by_their_address(store: MemoryFileSystem, folder: Path) -> None:
    model = bilstm.load(folder / "model")
    for name, message in (("x.parquet", "is not a Parquet file"), ("x.ndjson", "line 1"), ("x.csv", "column")):
        store.pipe_file(f"/top/{name}", b"nothing of the kind\n1\n")
        with pytest.raises(UserError, match=f"{TOP}/{name}.*{message}"):
            model.predict(f"{TOP}/{name}")
    store.pipe_file("/top/x.csv", b"")
    with pytest.raises(UserError, match=f"{TOP}/x.csv is empty"):
        model.predict(f"{TOP}/x.csv")


# --- A store that speaks S3 -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_s3(folder: Path, tmp_path: Path) -> None:
    """Two shards in processes of their own that are killed at any moment and started again."""
    pytest.importorskip("moto")
    s3fs = pytest.importorskip("s3fs")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = os.environ | {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "one",
        "AWS_SECRET_ACCESS_KEY": "two",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    keys = {"key": "one", "secret": "two", "endpoint_url": environment["AWS_ENDPOINT_URL"]}
    try:
        system = s3fs.S3FileSystem(**keys)
        system.mkdir("acme")
        system.put(f"{folder}/lake", "acme/lake", recursive=True)
        system.put_file(str(folder / "model"), "acme/model")
        run("predict", folder / "model", f"{folder}/lake/**/*.parquet", "--out", tmp_path / "expected", "--quiet")
        words = ["predict", "s3://acme/model", "s3://acme/lake/**/*.parquet", "--out", "s3://acme/found", "--shard"]
        command = [sys.executable, "-m", "bilstm", *words]

        def start(shard: int) -> subprocess.Popen[str]:
            return subprocess.Popen([*command, f"{shard}/2"], env=environment, text=True, stderr=subprocess.PIPE)

        for kill_after in (0.5, 1.0, 1.5, 2.0, 2.5):
            processes = [start(1), start(2)]
            time.sleep(kill_after)
            for process in processes:
                process.kill()
                process.communicate()
        for process in [start(1), start(2)]:
            _, problems = process.communicate(timeout=120)
            assert (process.returncode, problems) == (0, "")
        system.invalidate_cache()
        found = {
            name.removeprefix("acme/found/"): system.cat_file(name)
            for name in system.find("acme/found")
            if FINISHED not in name
        }
        assert found == contents(tmp_path / "expected")
        bad = subprocess.run(
            [*command[:5], "s3://none/x.parquet", "--out", "x.csv"], env=environment, capture_output=True, text=True
        )
        assert bad.returncode == 2
        assert "s3://none/x.parquet" in bad.stderr
        assert "Traceback" not in bad.stderr
    finally:
        server.stop()
