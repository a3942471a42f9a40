"""The models of a service, by name: files, and folders of whose versions the newest is served."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from bilstm.data.spelling import WHOLE
from bilstm.errors import ModelFileError, UserError, suggestion
from bilstm.files import is_address
from bilstm.inspection import describe_columns
from bilstm.model import TrainedModel
from bilstm.serving.batches import Batcher
from bilstm.serving.refusals import Refusal
from bilstm.serving.settings import Settings
from bilstm.serving.texts import reads_text, text_column
from bilstm.tasks import LabelTask

_EXAMPLES = 5  # of the values of a feature of text
Signature = tuple[str, int, int, int]  # of a file: it is another one if this is


@dataclasses.dataclass(frozen=True)
class Served:
    """A version of a model that is being served. Requests keep the one with which they began.

    Attributes:
        name: of the model.
        version: of a folder's file its name without what comes after the point; of a file a digest of its content.
        path: the file.
        model: what it holds.
        batcher: computes for requests.
        baseline: computes what the model without recurrence gives, None where the file has none.
    """

    name: str
    version: str
    path: Path
    model: TrainedModel
    batcher: Batcher
    baseline: Batcher | None

    @cached_property
    def description(self) -> dict[str, object]:
        """What clients need to know, as plain data."""
        task, schema = self.model.task, self.model.schema
        columns = describe_columns(schema)
        for feature in columns["features"]:
            known = [
                text
                for each in schema.categorical
                if each.name == feature["name"] and each.part == WHOLE
                for text in each.vocabulary
            ]
            feature["examples"] = known[:_EXAMPLES]
        text = text_column(schema) if reads_text(schema) else None
        classes = list(task.classes) if isinstance(task, LabelTask) else None
        return {
            "name": self.name,
            "version": self.version,
            "task": task.kind,
            "targets": list(task.columns),
            "classes": classes,
            "spans": isinstance(task, LabelTask) and task.spans,
            "text": None if text is None else {"column": text.column, "tokens": text.tokens},
            "columns": columns,
            "direction": self.model.training.get("options", {}).get("direction"),
            "baseline": self.baseline is not None,
        }

    @cached_property
    def examples(self) -> list[dict[str, object]]:
        """The sequences that the file keeps, as `/label` takes them, with what is true of them. A text that would be
        divided into other steps has no true answers for them."""
        schema, found = self.model.schema, list[dict[str, object]]()
        for example in self.model.examples:
            sequence: object = example.cells
            truth = example.truth
            if reads_text(schema):
                sequence = text = example.text(schema)
                if text is None:
                    sequence = " ".join(token or "" for token in example.cells[text_column(schema).column])
                    truth = truth if self.model.task.per_sequence else {}
            found.append({"sequence": sequence, "truth": truth, "steps": len(example), "of_steps": example.steps})
        return found


class Store:
    """The models that are served.

    Args:
        settings: name their files.
        notify: called for each version that was loaded and each file that could not be, with the model's name, the
            version or None, and what was wrong.

    Raises:
        UserError: a model cannot be loaded, or two have the same name.
    """

    def __init__(
        self,
        settings: Settings,
        notify: Callable[[str, str | None, str], object] = lambda *_: None,
        batched: Callable[[str, int], object] = lambda *_: None,
    ) -> None:
        self._settings, self._notify, self._batched = settings, notify, batched
        self._paths = dict(_named(settings.models))
        self._seen: dict[str, Signature] = {}
        self._served: dict[str, Served] = {}
        for name, path in self._paths.items():
            newest = _newest(path)
            if newest is None:
                raise ModelFileError(f"{path} is a folder without a model file")
            self._seen[name] = _signature(newest)
            self._served[name] = self._load(name, newest)

    def names(self) -> list[str]:
        return list(self._served)

    def get(self, name: str | None = None, version: str | None = None) -> Served:
        """A model; None: the first one.

        Raises:
            Refusal: there is no such model, or it has another version now.
        """
        names = self.names()
        name = names[0] if name is None else name
        if name not in self._served:
            raise Refusal(404, f"there is no model {name!r}.{suggestion(name, names)} The models: {', '.join(names)}")
        served = self._served[name]
        if version not in (None, served.version):
            raise Refusal(404, f"the model {name!r} has no version {version!r}; it is served as {served.version!r}")
        return served

    async def watch(self) -> None:
        """Look for newer files, and serve them as soon as they are loaded, forever."""
        while True:
            await asyncio.sleep(self._settings.watch)
            await self.look()

    async def look(self) -> None:
        """Load what is newer than what is served. A file that cannot be loaded changes nothing."""
        for name, path in self._paths.items():
            try:
                newest = await asyncio.to_thread(_newest, path)
                if newest is None or (signature := _signature(newest)) == self._seen.get(name):
                    continue
                self._seen[name] = signature
                served = await asyncio.to_thread(self._load, name, newest)
            except (UserError, OSError, MemoryError) as error:  # such as of a file that is being written
                self._notify(name, None, str(error) or "there is not enough memory")
                continue
            self._served[name] = served
            self._notify(name, served.version, "")

    def _load(self, name: str, path: Path) -> Served:
        model = TrainedModel.load(path)
        model.precision, model.warn = self._settings.precision, False
        version = path.stem
        if not self._paths[name].is_dir():
            version = hashlib.blake2b(path.read_bytes(), digest_size=6).hexdigest()
        wait = self._settings.batch_wait
        batcher = Batcher(model, wait, lambda requests: self._batched(name, requests))
        baseline = Batcher(model.baseline, wait) if model.baseline else None
        return Served(name, version, path, model, batcher, baseline)


def _named(models: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    names: dict[str, str] = {}
    for each in models:
        name, equals, rest = each.partition("=")
        if is_address(address := rest if equals and is_address(rest) else each):
            raise UserError(f"cannot read {address}: models that are served are on this machine; copy it there")
        path = Path(rest if equals and not Path(each).exists() else each)
        name = name if path != Path(each) else path.resolve().name if path.is_dir() else path.stem
        if not re.fullmatch(r"[\w.-]+", name):
            raise UserError(
                f"the model {each} would have the name {name!r}, which is hard to write in an address: give it one of "
                f"letters, digits and . _ - as NAME={path}"
            )
        if name in names:
            raise UserError(
                f"{names[name]} and {each} would both have the name {name!r}: give one another, such as {name}2={path}"
            )
        names[name] = each
        yield name, path


def _newest(path: Path) -> Path | None:
    """The file itself, or the folder's file whose name comes last, numbers in it counted as such."""
    if not path.is_dir():
        return path
    files = [each for each in path.iterdir() if each.is_file() and not each.name.startswith(".")]
    return max(files, key=_in_order, default=None)


def _in_order(path: Path) -> list[tuple[bool, int, str]]:
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in _parts(path.stem)]


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"([0-9]+)", name) if part]


def _signature(path: Path) -> Signature:
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0, 0
    return str(path), found.st_ino, found.st_mtime_ns, found.st_size
