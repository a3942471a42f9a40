"""The site in docs/: every page can be reached, every link leads somewhere, and all public names are in the reference.

`make docs` checks most of this, too, but needs Sphinx; these tests need nothing, but for the last.
"""

from __future__ import annotations

import importlib
import re
import runpy
import subprocess
import sys
import types
from pathlib import Path

import pytest

import bilstm
from bilstm.tasks import KINDS

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BENCHMARKS = ROOT / "benchmarks"
RESULTS = {BENCHMARKS / "accuracy" / "RESULTS.md", BENCHMARKS / "speed" / "RESULTS.md"}  # `make bench` writes them
PAGES = sorted({*ROOT.glob("*.md"), *DOCS.glob("*.md"), *BENCHMARKS.glob("*/*.md"), *RESULTS})
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def links_of(path: Path) -> list[str]:
    return [link for link in LINK.findall(CODE.sub("", path.read_text(encoding="utf-8"))) if "://" not in link]


def anchors_of(path: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE):
        plain = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading)
        slug = first = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = 0
        while slug in anchors:
            count += 1
            slug = f"{first}-{count}"
        anchors.add(slug)
    return anchors


def broken(page: Path, link: str) -> str | None:
    """What is wrong with a link, if anything is."""
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.is_relative_to(ROOT):
        return "leads out of the repository"
    if not target.exists():
        return None if target in RESULTS and not anchor else "leads to no file"
    if anchor and (target.suffix != ".md" or anchor not in anchors_of(target)):
        return "leads to no heading"
    return None


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda page: str(page.name))
def test_links_lead_somewhere(page: Path) -> None:
    wrong = {link: found for link in links_of(page) if (found := broken(page, link))}
    assert not wrong


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = DOCS / "tutorial.md"
    assert broken(page, "tables.md#what-is-predicted") is None
    assert broken(page, "#what-it-is") is None
    assert broken(page, "../benchmarks/speed/RESULTS.md") is None
    assert broken(page, "nowhere.md") == "leads to no file"
    assert broken(page, "tables.md#nowhere") == "leads to no heading"
    assert broken(page, "demo.png#nowhere") == "leads to no heading"
    assert broken(page, "../../elsewhere.md") == "leads out of the repository"
    (tmp_path / "page.md").write_text(
        "[a](b.md) ![c](d.png) `[e](f.md)` [g](https://h)\n```\n[i](j.md)\n```\n# K, l\n# K l\n"
    )
    assert links_of(tmp_path / "page.md") == ["b.md", "d.png"]
    assert anchors_of(tmp_path / "page.md") == {"k-l", "k-l-1"}


def navigation() -> list[str]:
    entries = runpy.run_path(str(DOCS / "conf.py"))["NAVIGATION"].values()
    return [re.sub(r".*<(.*)>", r"\1", page).lstrip("/") for pages in entries for page in pages]


def test_every_page_is_in_the_navigation_once() -> None:
    pages = {str(page.relative_to(ROOT).with_suffix("").as_posix()) for page in PAGES} - {"docs/index"}
    assert sorted(navigation()) == sorted(pages | {"docs/api/index"})


def reference() -> dict[str, str]:
    """The pages of the reference, by name."""
    return {page.stem: page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.rst")}


def documented() -> tuple[set[str], set[str]]:
    """The modules whose public names are all documented, and the names that are documented one by one."""
    text = "".join(reference().values())
    whole = re.findall(r"automodule:: (\S+)\n(?!   :no-members:)", text)
    return set(whole), set(re.findall(r"auto(?:class|function|exception|data):: (\S+)", text))


def test_every_page_of_the_reference_is_in_its_index() -> None:
    pages = reference()
    assert sorted(re.findall(r"^   (\w+)$", pages["index"], re.MULTILINE)) == sorted(pages.keys() - {"index"})


@pytest.mark.parametrize("name", [name for name in bilstm.__all__ if name != "__version__"])
def test_all_that_is_public_is_in_the_reference(name: str) -> None:
    whole, single = documented()
    value = getattr(bilstm, name)
    if isinstance(value, types.ModuleType):
        module = importlib.import_module(f"bilstm.{name}")
        missing = {f"bilstm.{name}.{public}" for public in getattr(module, "__all__", ())} - single
        assert f"bilstm.{name}" in whole or not missing
    else:
        homes = [module for module in whole if vars(importlib.import_module(module)).get(name) is value]
        assert homes or {f"bilstm.{name}", f"bilstm.models.{name}"} & single


@pytest.mark.parametrize("owner", [bilstm.TrainedModel, bilstm.TrainingOptions, bilstm.UserError, bilstm.Ragged])
def test_public_classes_and_their_methods_have_docstrings(owner: type) -> None:
    assert owner.__doc__
    public = {name: value for name, value in vars(owner).items() if not name.startswith("_")}
    functions = {name: value for name, value in public.items() if callable(value) or isinstance(value, classmethod)}
    assert [name for name, value in functions.items() if not (value.__doc__ or "").strip()] == []


def test_the_kinds_of_tasks_are_documented() -> None:
    described = re.findall(r"^((?:step|sequence)-\w+) ", reference()["tasks"], re.MULTILINE)
    assert sorted(described) == sorted(KINDS)
    fronts = (DOCS / "python.md").read_text(encoding="utf-8")
    assert all(f"`{kind}` |" in fronts for kind in KINDS)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package)
    options = ["--quiet", "--fresh-env", "--fail-on-warning", "--keep-going", "--conf-dir", "docs"]
    places = ["--doctree-dir", str(tmp_path / "trees"), ".", str(tmp_path / "site")]
    command = [sys.executable, "-m", "sphinx", *options, *places]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stderr) == (0, "")
