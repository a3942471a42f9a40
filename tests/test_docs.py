"""Every block of code in README.md, CONTRIBUTING.md and docs/ runs, in order, and prints what is shown below it.

A text block that follows code is the printed output; a line of it that is … stands for any lines left out. Its figures
may differ by a little, so that a change of the engine's rounding does not need new ones. Sybil and similar tools need a
conftest.py in the documents' folder and compare to the letter; here are a regular expression and a loop.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pytest
from click.testing import CliRunner

from bilstm.cli import commands

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^[ >]*(```|~~~)", re.MULTILINE)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(bilstm|make|source|eval|pip install|curl|torchrun|mpiexec) ")
SERVICE = "127.0.0.1:8000"  # which pages say, and the tests replace by a free port
STORES = ("s3://", "memory://")  # the one that pages say, and the one that tests have in its place
VERSION = re.compile(r'(?<="version":")[0-9a-f]{12}|(?<="versions":\[")[0-9a-f]{12}|(?<="model_version":")[0-9a-f]{12}')
NUMBER = re.compile(r"\d+(?:\.\d*)?")
TOLERANCE = 0.015
OPTIONAL = (
    "sktime",
    "serial",
    "paho",
    "mlflow",
)  # packages that a page may import and that the tests' environment may lack


CLUSTERS = ("ray", "pyspark", "dask")  # whose blocks take a minute each, and are left to `make test-slow`


def blocks_of(path: Path) -> list[tuple[int, str, str]]:
    """(line, language, content) of each fenced block."""
    text = path.read_text(encoding="utf-8")
    found = [(text.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in BLOCK.finditer(text)]
    assert len(FENCE.findall(text)) == 2 * len(found), f"{path.name}: a block of a form that is not recognised"
    return found


def run_python(path: Path, line: int, content: str, names: dict[str, Any]) -> str:
    """What a block prints. A traceback tells its line in the document."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile("\n" * line + content.replace(*STORES), str(path), "exec"), names)
    return printed.getvalue()


def imports_of(content: str) -> Iterator[tuple[str, str | None]]:
    """(module, name) of each name that a block imports; the name is None in `import module`."""
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            yield from ((each.name, None) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", each.name) for each in node.names)


def lacks_packages(content: str, clusters: bool = False) -> bool:
    """Whether a block cannot be run, or is for a cluster and not to be run."""
    modules = {module.partition(".")[0] for module, _ in imports_of(content)}
    if not clusters and modules & {*CLUSTERS}:
        return True
    packages = modules & {*OPTIONAL, *CLUSTERS}
    return any(importlib.util.find_spec(package) is None for package in packages)


def run_command(typed: str, options: str) -> str:
    """What a typed line prints; `options` are added to make it quick.

    Of `make`, only the target's name is checked, of `pip`, which extras are installed, and what a launcher would start
    several times runs once.
    """
    if typed.startswith("source "):
        return ""
    if typed.startswith("make "):
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{typed.split()[1]}:", makefile, re.MULTILINE), typed
        return ""
    if typed.startswith("pip "):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        named = {name for extras in re.findall(r"\[(.+?)\]", typed) for name in extras.split(",")}
        assert named <= project["optional-dependencies"].keys(), typed
        return ""
    if typed.startswith(("torchrun ", "mpiexec ")):  # test_distributed_launchers.py starts several processes
        typed = typed[typed.index("bilstm ") :]
    evaluated = re.fullmatch(r'eval "\$\((.+)\)"', typed)
    command, _, given = (evaluated[1] if evaluated else typed).replace(*STORES).partition(" < ")
    arguments = shlex.split(command, comments=True)[1:] + shlex.split(options)
    result = CliRunner().invoke(commands, arguments, input=given and Path(given).read_text())
    assert result.exit_code == 0, f"{typed}\n{result.output}"
    return result.stdout.replace(*reversed(STORES))


def run_job(content: str) -> None:
    """Run a script, or the command of a job of Kubernetes; as often as it says, as the scheduler would."""
    number, count, script = "", 1, content
    if found := re.search(r"^#SBATCH --array=1-(\d+)$", content, re.MULTILINE):
        number, count = "SLURM_ARRAY_TASK_ID", int(found[1])
    elif found := re.search(r"^  completions: (\d+)$", content, re.MULTILINE):
        number, count = "JOB_COMPLETION_INDEX", int(found[1])
        command = re.search(r"^ *command: (.*)$", content, re.MULTILINE)
        assert command, content
        shell, option, script = json.loads(command[1])
        assert (shell, option) == ("sh", "-c")
    first = 1 if number.startswith("SLURM") else 0
    for index in range(first, first + count):
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, **({number: str(index)} if number else {})}
        shell = "sh" if number.startswith("JOB") else "bash"
        ran = subprocess.run([shell, "-e", "-c", script], env=environment, capture_output=True, text=True, timeout=300)
        assert (ran.returncode, ran.stderr) == (0, ""), script


class Service:
    """What `bilstm serve` starts, and `curl` asks, until the block ends."""

    _process: subprocess.Popen[str] | None = None
    _address = ""

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.communicate(timeout=60)

    def serve(self, typed: str) -> str:
        """What is printed when requests are taken."""
        command = [sys.executable, "-m", *shlex.split(typed), "--port", "0", "--no-watch"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout
        line = self._process.stdout.readline()
        found = re.search(r"http://(\S+);", line)
        assert found, line
        self._address = found[1]
        return line.replace(self._address, SERVICE)

    def local(self, content: str) -> str:
        """Code that talks to this service."""
        return content.replace(SERVICE, self._address or SERVICE)

    def ask(self, typed: str) -> str:
        """What `curl` prints, with the digests of model files as …."""
        assert SERVICE in typed, typed
        command = shlex.split(typed.replace(SERVICE, self._address))
        ran = subprocess.run([*command, "--silent", "--show-error"], capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        return VERSION.sub("…", ran.stdout) + "\n"


def run_page(path: Path, options: dict[str, str], *, clusters: bool = False) -> dict[str, Any]:
    """Run all blocks of a document in the current folder; `options` are added to commands. What blocks define."""
    with Service() as service:
        return _run_page(path, options, service, clusters)


def _run_page(path: Path, options: dict[str, str], service: Service, clusters: bool) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    printed: str | None = None  # by the block before
    for line, language, content in blocks_of(path):
        where = f"{path.name}, line {line}"
        before, printed = printed, None
        if language == "python":
            printed = None
            if not lacks_packages(content, clusters):
                printed = run_python(path, line, service.local(content), names)
        elif language in ("bash", "yaml"):
            run_job(content)
        elif language == "javascript":  # tests/test_serving_page.py runs it
            assert path.name == "serve.md", where
        elif language == "toml":
            Path("options.toml").write_text(content, encoding="utf-8")
        elif language == "text":  # after prose, it is a drawing
            assert before is None or shows(before, content), f"{where}: printed\n{before}"
        elif language in ("", "console") and COMMAND.match(content):
            typed = content.splitlines()
            assert all(COMMAND.match(each) for each in typed if each), f"{where}: not a known command"
            printed = "".join(_run_line(each, options, service) for each in typed if each)
        else:
            assert not language, f"{where}: a block of {language}, which no test runs"
            assert begins_a_file(content), f"{where}: neither a command nor the beginning of a file made before"
    return names


def _run_line(typed: str, options: dict[str, str], service: Service) -> str:
    if typed.startswith("bilstm serve "):
        return service.serve(typed)
    if typed.startswith("curl "):
        return service.ask(typed)
    return run_command(typed, options.get(typed.split()[1], ""))


def begins_a_file(content: str) -> bool:
    """Whether one of the files in the current folder begins like this."""
    lines = len(content.splitlines())
    files = (each.read_text("utf-8", "ignore") for each in Path().iterdir() if each.is_file())
    return any(same("\n".join(text.splitlines()[:lines]), content) for text in files)


def same(printed: str, expected: str) -> bool:
    """Whether the words are the same, and the figures nearly."""
    if NUMBER.sub("#", printed).split() != NUMBER.sub("#", expected).split():
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(expected), strict=True)
    return all(abs(float(a) - float(b)) <= TOLERANCE for a, b in pairs)


def shows(printed: str, expected: str) -> bool:
    """The same, where a line that is … stands for any number of lines."""
    if "…" not in expected.splitlines():
        return same(printed, expected)
    rest, anywhere = printed.splitlines(), False
    for line in expected.splitlines():
        if line == "…":
            anywhere = True
            continue
        found = next((i for i, other in enumerate(rest if anywhere else rest[:1]) if same(other, line)), None)
        if found is None:
            return False
        rest, anywhere = rest[found + 1 :], False
    return anywhere or not rest


# --- What pages expect, and what they must have made --------------------------------------------------------------


def tables_of_states() -> None:
    rows = [f"s{i // 5},{i % 5},{i * 7 % 11},{'up' if i * 7 % 11 > 5 else 'down'}" for i in range(100)]
    for name in ("train.csv", "test.csv", "new.csv"):
        Path(name).write_text("\n".join(["id,time,x,state", *rows]) + "\n")


def benchmark_sets() -> None:
    tables_of_states()
    for folder in ("ecg_waves", "hyphenation"):
        Path(folder).mkdir()
        for name in ("train", "test"):
            if folder == "ecg_waves":
                query = "SELECT id AS seq, time AS t, x, state AS label FROM 'train.csv'"
                duckdb.execute(f"COPY ({query}) TO '{folder}/{name}.parquet' (FORMAT parquet)")
            else:
                Path(folder, f"{name}.conll").write_text("a 0\nb 1\nc 0\n\nb 1\na 0\n\n" * 20)


def trained_model() -> None:
    tables_of_states()
    run_command("bilstm train train.csv --sequence id --label state --epochs 1 --out model.safetensors", "")


def stream_of_steps() -> None:
    objects = [{"recording": 1, "seconds": t, "movement": t % 3, "pulse": None, "place": "home"} for t in range(9)]
    Path("live.ndjson").write_text("".join(json.dumps(row) + "\n" for row in objects))


def stream_of_pressures() -> None:
    pressures = [0.1, -0.2, 0.4, 0.3, 0.2, 2.1, -1.6, 0.0]
    rows = [{"pump": "p7", "second": second, "pressure": pressure} for second, pressure in enumerate(pressures)]
    Path("live.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))


PREPARE: dict[str, Callable[[], None]] = {
    "directions.md": benchmark_sets,
    "report.md": trained_model,
    "streams.md": stream_of_pressures,
    "tables.md": stream_of_steps,
}
OPTIONS = {
    "directions.md": {"compare": "--epochs 1 --layers 1 --seeds 1"},
}
BEGINNINGS = {  # of files that must have been made
    "README.md": {"labelled.csv": "id,time,x,state,predicted,probability\n", "report.html": "<!"},
    "tables.md": {"events.csv": "sequence,start,end,label,confidence\n"},
    "words.md": {"tagged.conll": "Eva\tB-person\t"},
    "classify.md": {"machine.safetensors": "", "labelled.ndjson": '{"machine":'},
    "python.md": {"activity.model": "", "report.html": "<!"},
    "quantities.md": {"totals.csv": "ride,predicted\n"},
    "recordings.md": {"riders-of-new.csv": "file,predicted,probability\n"},
}


def check_shards() -> None:
    """Whether the jobs made the same files as one process."""
    expected = {path.relative_to("labelled"): path.read_bytes() for path in Path("labelled").rglob("*.parquet")}
    assert len(expected) == 12
    system, bucket = fsspec.core.url_to_fs("memory://acme/labelled")
    assert {path: system.cat_file(f"{bucket}/{path.as_posix()}") for path in expected} == expected
    for folder in ("by-xargs", "by-slurm", "by-pods"):
        assert {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*.parquet")} == expected


CHECKS = {"distributed.md": check_shards}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_blocks_of_a_page_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PREPARE.get(path.name, lambda: None)()
    run_page(path, OPTIONS.get(path.name, {}))
    for name, beginning in BEGINNINGS.get(path.name, {}).items():
        assert Path(name).read_text("utf-8", "ignore").startswith(beginning), name
    CHECKS.get(path.name, lambda: None)()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of Ray, Spark and Dask
def test_the_blocks_for_clusters_give_one_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in CLUSTERS:
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    run_page(ROOT / "docs" / "distributed.md", {}, clusters=True)
    rows = {
        folder: duckdb.sql(f"SELECT * FROM '{folder}/**/*.parquet' ORDER BY ALL").fetchall()
        for folder in ("labelled", "by-ray", "by-spark", "by-dask")
    }
    assert len(rows["labelled"]) == 600
    assert all(each == rows["labelled"] for each in rows.values())


def test_the_documents_have_blocks_that_run() -> None:
    found = {path.name: [language for _, language, _ in blocks_of(path)].count("python") for path in DOCUMENTS}
    least = {"README.md": 2, "tutorial.md": 7, "directions.md": 3, "tables.md": 2, "words.md": 6, "classify.md": 10}
    least |= {"python.md": 8, "quantities.md": 5, "recordings.md": 4, "estimators.md": 15, "streams.md": 7}
    assert {name: found[name] >= least[name] for name in least} == dict.fromkeys(least, True)


def documented_modules() -> set[str]:
    pages = (ROOT / "docs" / "api").glob("*.rst")
    return {name for page in pages for name in re.findall(r"automodule:: (\S+)", page.read_text(encoding="utf-8"))}


def public_names(module: str) -> set[str]:
    loaded = importlib.import_module(module)
    own = {name for name, value in vars(loaded).items() if getattr(value, "__module__", None) == module}
    return {*getattr(loaded, "__all__", own)}


def undocumented(content: str) -> list[str]:
    """The modules and names of the package that a block imports and that are not in the reference."""
    modules = documented_modules()
    wrong = []
    for module, name in imports_of(content):
        if module.partition(".")[0] != "bilstm":
            continue
        if module not in modules:
            wrong.append(module)
        elif name is not None and name not in public_names(module):
            wrong.append(f"{module}.{name}")
    return wrong


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_pages_import_documented_names_only(path: Path) -> None:
    contents = [content for _, language, content in blocks_of(path) if language == "python"]
    assert [name for content in contents for name in undocumented(content)] == []


def test_a_block_is_left_out_only_where_an_optional_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "OPTIONAL", ("numpy", "no_such_package"))
    assert lacks_packages("if True:\n    from no_such_package.base import A")
    assert not lacks_packages("import numpy\nimport another_package")


def test_an_import_that_is_not_documented_is_found() -> None:
    assert undocumented("import bilstm\nimport numpy.linalg\nfrom bilstm.metrics import roc_auc") == []
    assert undocumented("def f():\n    from bilstm.data.reading import read_table") == ["bilstm.data.reading"]
    assert undocumented("import bilstm.wording\nfrom bilstm import nothing") == ["bilstm.wording", "bilstm.nothing"]
    assert undocumented("from bilstm.metrics import np") == ["bilstm.metrics.np"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nprint(1 / 0)\n```", "division by zero"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```", "printed"),
        ("```\nbilstm train no.csv --out m\n```", "no.csv"),
        ("```console\nbilstm inspect no.model\n```", "no.model"),
        ("```console\nmake coffee\n```", "make coffee"),
        ("```\npip install '.[tea]'\n```", "tea"),
        ("```console\nmake test\nrm -r .\n```", "not a known command"),
        ("```console\nrm -r .\n```", "which no test runs"),
        ("```\na,b\n1,2\n```", "beginning of a file"),
        ("```rust\nfn main() {}\n```", "a block of rust"),
        ("~~~python\nprint(1 / 0)\n~~~", "not recognised"),
        ("- so:\n  ```python\n  print(1 / 0)\n  ```", "not recognised"),
        ("```python title\nprint(1 / 0)\n```", "not recognised"),
    ],
)
def test_a_page_that_is_wrong_fails(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "folder" / "page.md"
    path.parent.mkdir()
    path.write_text(text + "\n", encoding="utf-8")
    with pytest.raises((AssertionError, ZeroDivisionError), match=message):
        run_page(path, {})


@pytest.mark.parametrize(
    ("printed", "expected", "agree"),
    [
        ("a 0.950 b", "a 0.951\nb", True),
        ("a 0.950 b", "a 0.990 b", False),
        ("a 0.950 b", "a 0.950 c", False),
        ("a 0.950", "a 0.950 b", False),
        ("[0 1 1]", "[0 1 0]", False),
        ("a\nb\nc\n", "a\n…\n", True),
        ("a\nb\nc\n", "a\n…\nc\n", True),
        ("a\nb\nc\n", "…\nb\nc\n", True),
        ("a\nb\nc\n", "…\nb\n", False),
        ("a\nb\nc\n", "a\nc\n…\n", False),
        ("a\nb\nc\n", "…\nc\nb\n…\n", False),
    ],
)
def test_figures_may_differ_by_a_little_and_lines_be_left_out(printed: str, expected: str, agree: bool) -> None:
    assert shows(printed, expected) == agree
