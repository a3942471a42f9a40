"""How Sphinx makes the site of README.md, docs/ and the docstrings: `make docs`.

The repository's root is the source, so that relative links mean the same on GitHub, in a checkout and on the site.
"""

from __future__ import annotations

import builtins
import re
import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

# The navigation beside each page, by what a reader came for.
NAVIGATION = {
    "Learn": ["/docs/tutorial", "/docs/directions"],
    "Do": [
        "/docs/tables",
        "/docs/recordings",
        "/docs/long-recordings",
        "/docs/streams",
        "/docs/words",
        "/docs/names",
        "/docs/annotations",
        "/docs/seqeval",
        "/docs/distillation",
        "/docs/classify",
        "/docs/quantities",
        "/docs/python",
        "/docs/keras",
        "/docs/pytorch",
        "/docs/old-keras",
        "/docs/onnx",
        "/docs/c",
        "/docs/bridges",
        "/docs/estimators",
        "/docs/report",
        "/docs/serve",
        "/docs/distributed",
        "/docs/distributed-training",
        "/docs/choose-a-size",
    ],
    "Look up": ["/docs/api/index", "/docs/engine"],
    "Figures": [
        "/benchmarks/accuracy/RESULTS",
        "/benchmarks/accuracy/TEXT",
        "/benchmarks/speed/RESULTS",
        "/benchmarks/speed/TORCH",
        "/benchmarks/speed/CONVERT",
        "/benchmarks/speed/CHARACTERS",
        "/benchmarks/speed/CRF",
        "/benchmarks/speed/C",
        "/benchmarks/speed/TAGGERS",
        "/benchmarks/speed/TAGS",
        "/benchmarks/speed/STREAMS",
        "/benchmarks/speed/STARTUP",
        "/benchmarks/speed/DATA",
        "/benchmarks/speed/NEIGHBORS",
        "/benchmarks/serving/RESULTS",
        "/benchmarks/distributed/TRAINING",
        "/benchmarks/distributed/SIZES",
        "/benchmarks/distributed/LAKE",
        "/benchmarks/accuracy/TUTORIAL",
    ],
    "The project": ["bilstm at a glance </README>", "/CONTRIBUTING", "/CHANGELOG"],
}

project = "bilstm"
copyright = "the authors of bilstm; Apache-2.0"
version = release = runpy.run_path(str(ROOT / "src/bilstm/_version.py"))["__version__"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/api/*.rst", "benchmarks/*/*.md"]
exclude_patterns = [".*", "build", "dist", "src", "tests", "examples"]
nitpicky = True  # a broken reference is a warning, and `make docs` fails

# --- Markdown, as GitHub reads it ---------------------------------------------------------------------------------

myst_heading_anchors = 4
highlight_language = "none"  # of blocks that name no language

# --- Docstrings ---------------------------------------------------------------------------------------------------

default_role = "py:obj"  # `name` is a link where that is documented
autodoc_mock_imports = ["torch"]  # too large for this
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # what all layers have is documented once, in `Layer`
autodoc_typehints = "none"  # docstrings give shapes and data types, annotations do not
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style"), "Returns", "Yields"]  # the latter are prose, without a type
maximum_signature_line_length = 90
add_module_names = False
python_use_unqualified_type_names = True
nitpick_ignore_regex = [("py:obj", r".*")]  # not every `name` in a docstring is documented
nitpick_ignore = [("py:exc", name) for name in ("NotFittedError", *vars(builtins))]

# --- The site: complete in itself, it loads nothing from elsewhere ------------------------------------------------

html_theme = "furo"
html_title = f"bilstm {release}"
html_copy_source = False
html_show_sphinx = False


def add_navigation(app: Any, docname: str, source: list[str]) -> None:
    """Sphinx needs a list of pages, which GitHub would show as a block of code."""
    if docname == root_doc:
        for caption, pages in NAVIGATION.items():
            entries = "\n".join(pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


def escape_docstring(app: Any, what: str, name: str, object: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text: outside backticks, `name_` is no link, and a bar is no substitution."""
    for index, line in enumerate(lines):
        pieces = line.split("`")
        pieces[::2] = [re.sub(r"(?<=\w)_(?![\w:,])|\|", r"\\\g<0>", piece) for piece in pieces[::2]]
        lines[index] = "`".join(pieces)


def find_class(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Link `Ragged` and `Ragged.lengths` from all modules, not only from their own."""
    from sphinx.util.nodes import make_refnode  # the tests read this file without Sphinx

    name = node["reftarget"]
    if node.get("reftype") != "obj" or not name[:1].isupper():
        return None
    objects = env.get_domain("py").get_objects()
    places = {(page, anchor) for full, _, _, page, anchor, _ in objects if full.endswith(f".{name}")}
    return make_refnode(app.builder, node["refdoc"], *places.pop(), content) if len(places) == 1 else None


def add_front_door(app: Any, error: Exception | None) -> None:
    """The site's address without a page's name leads to the index."""
    if error is None:
        page = f"{root_doc}.html"
        door = f'<!doctype html><meta http-equiv="refresh" content="0; url={page}"><a href="{page}">bilstm</a>\n'
        (Path(app.outdir) / "index.html").write_text(door, encoding="utf-8")


def setup(app: Any) -> None:
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", escape_docstring, priority=400)  # before napoleon
    app.connect("missing-reference", find_class)
    app.connect("build-finished", add_front_door)
