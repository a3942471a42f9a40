"""The pages of other tables, which RESULTS.md names."""

from __future__ import annotations

from pathlib import Path

PAGES = {
    "CRF": "the CRF, beside pytorch-crf",
    "CHARACTERS": "characters, sequences within sequences, beside PyTorch",
    "TORCH": "a PyTorch training loop with our layers in it",
    "TAGGERS": "taggers of words",
    "TAGS": "what reads tags of words, beside seqeval",
    "CONVERT": "Keras's files, opened by us",
    "C": "models exported to C",
    "STREAMS": "many streams at once",
    "NEIGHBORS": "beside other processes that use the processors",
    "DATA": "reading and encoding tables",
    "STARTUP": "from a shell to the first prediction",
}


def other_pages() -> list[str]:
    """A list of those that there are."""
    folder = Path(__file__).parent
    return [f"- [{name}.md]({name}.md): {what}" for name, what in PAGES.items() if (folder / f"{name}.md").exists()]
