"""What can be predicted: a label, several labels or quantities, for each time step or for each sequence."""

from __future__ import annotations

from typing import Any

from bilstm.data.fields import Fields
from bilstm.tasks.base import Head, Task
from bilstm.tasks.labels import LabelTask
from bilstm.tasks.labelsets import LabelSetTask
from bilstm.tasks.outputs import Outputs
from bilstm.tasks.quantities import QuantityTask

__all__ = ["KINDS", "Head", "LabelSetTask", "LabelTask", "Outputs", "QuantityTask", "Task", "task_from_json"]

_TASKS: dict[str, type[Task]] = {"label": LabelTask, "labels": LabelSetTask, "quantity": QuantityTask}
KINDS = tuple(f"{unit}-{what}" for unit in ("step", "sequence") for what in _TASKS)


def task_from_json(data: Any) -> Task:
    """Rebuild a task from an untrusted file.

    Raises:
        ModelFileError: the data do not describe a task.
    """
    field = Fields("task", data)
    if field.get("kind") not in KINDS:
        raise field.wrong("kind")
    unit, what = field.text("kind").split("-")
    columns = field.distinct_texts("columns")
    if not columns:
        raise field.wrong("columns")
    return _TASKS[what].from_json(field, columns, unit == "sequence")
