"""Which task a table means; what its labels and quantities are; which tables of labels fit."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bilstm
from bilstm.data.memory import MemoryTable
from bilstm.data.reading import read_table
from bilstm.data.sources import open_table
from bilstm.data.table import Sequences
from bilstm.errors import ModelFileError, UserError
from bilstm.model.columns import ColumnOptions
from bilstm.model.prepare import prepare
from bilstm.tasks import KINDS, LabelSetTask, LabelTask, Outputs, QuantityTask, Task, task_from_json
from bilstm.tasks.finding import TargetTable, find_task, read_truth
from bilstm.tasks.labels import check_background, label_text, majority

pytestmark = pytest.mark.fast

NAN = float("nan")


def sequences(*labels: Any) -> dict[str, list[Any]]:
    """A long table with the labels of each sequence, such as "aab"."""
    rows = [(number, label) for number, of_one in enumerate(labels) for label in of_one]
    return {"id": [row[0] for row in rows], "y": [None if row[1] == "-" else row[1] for row in rows]}


def found(columns: dict[str, list[Any]], kind: str | None = None, label: Any = ("y",)) -> tuple[Task, Any, Sequences]:
    table = open_table(columns, sequence="id")
    divided = table.sequences("id")
    return *find_task(TargetTable(table, tuple(label)), divided, kind), divided


# --- Which task ------------------------------------------------------------------------------------------------------

MEANT: dict[str, tuple[list[Any], str]] = {
    "differing labels": (["ab", "ba", "aab"], "step-label"),
    "constant labels": (["aa", "bb", "aaa"], "sequence-label"),
    "constant where labelled": (["a-a", "-bb", "a-", "bb"], "sequence-label"),
    "one label throughout but for one sequence": (["OOO", "OO", "OOOO", "OAO"], "step-label"),
    "sentences of which few name anybody": (["OOO"] * 50 + ["OPO", "PPO"], "step-label"),
    "the only named sentence is one name": (["OOO"] * 50 + ["OPO", "POO", "PP"], "step-label"),
    "one step each": (["a", "b", "a", "b"], "step-label"),
    "one step each but two": (["a", "b", "a", "bb", "aa"], "sequence-label"),
    "one label each": (["a-", "-b", "a--", "b"], "step-label"),
    "an unlabelled sequence": (["aa", "--", "bb"], "sequence-label"),
    "rare classes": (["aaa"] * 40 + ["bb", "cc"], "sequence-label"),
}


@pytest.mark.parametrize(("labels", "kind"), MEANT.values(), ids=MEANT)
def test_which_task_a_table_means(labels: list[Any], kind: str) -> None:
    task, truth, divided = found(sequences(*labels))
    assert task.kind == kind
    assert len(truth) == (len(labels) if kind == "sequence-label" else len(divided.rows))
    assert isinstance(task, LabelTask)
    if task.per_sequence:
        firsts = [next((label for label in of_one if label != "-"), None) for of_one in labels]
        assert [None if code < 0 else task.classes[code] for code in truth] == firsts
    for other in ("step-label", *(["sequence-label"] if all(len(set(x) - {"-"}) < 2 for x in labels) else [])):
        assert found(sequences(*labels), other)[0].kind == other


def test_a_few_sequences_in_which_a_label_changes_are_asked_about() -> None:
    labels = ["aa", "bb", "aa", "bb", "ab", "aab", *["aa", "bb"] * 4]
    message = (
        "the label in column 'y' is the same in all rows of most sequences of X, but changes within 2 sequences: row 9 "
        "of X; row 12 of X. Correct these, or say what is meant with --task: a label for each time step (step-label) "
        "or for each sequence (sequence-label)"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        found(sequences(*labels))
    assert found(sequences(*labels), "step-label")[0].kind == "step-label"
    with pytest.raises(
        UserError, match="changes within 2 sequences of X: row 9 of X; row 12 of X. All rows of a seque"
    ):
        found(sequences(*labels), "sequence-label")
    with pytest.raises(UserError, match=r"within 7 sequences of X: row 1 of X; row 3 .*; row 9 of X and 2 more\. All"):
        found(sequences(*["ab"] * 7), "sequence-label")


def test_conll_files_and_lists_of_labels_are_of_steps(tmp_path: Any) -> None:
    (tmp_path / "t.conll").write_text("the O\na O\n\nDan B\nAnn B\n\n")
    prepared = prepare(read_table(tmp_path / "t.conll"), ColumnOptions())
    assert prepared.task.kind == "step-label"
    lists = {"x": [[1.0, 2.0], [3.0, 4.0]], "y": [["a", "a"], ["b", "b"]], "of": ["p", "q"]}
    rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    for label, kind in (("y", "step-label"), ("of", "sequence-label")):
        assert prepare(open_table(rows), ColumnOptions(label=(label,))).task.kind == kind


WHAT: dict[str, tuple[dict[str, list[Any]], str]] = {
    "two of 0 and 1": ({"a": [0, 1, 1], "b": [1, 0, 1]}, "step-labels"),
    "booleans": ({"a": [True, False, True], "b": [1, 0, 1]}, "step-labels"),
    "text of 0 and 1": ({"a": [0.0, 1.0, NAN], "b": [1, 0, None]}, "step-labels"),
    "other numbers": ({"a": [0, 2, 1], "b": [1, 0, 1]}, "step-quantity"),
    "fractions": ({"a": [0, 0.5, 1], "b": [1, 0, 1]}, "step-quantity"),
}


@pytest.mark.parametrize(("columns", "kind"), WHAT.values(), ids=WHAT)
def test_several_columns(columns: dict[str, list[Any]], kind: str) -> None:
    task, truth, _ = found({"id": [1, 1, 1], **columns}, None, columns)
    assert task.kind == kind
    assert task.outputs == 2
    assert truth.shape == (3, 2)


@pytest.mark.parametrize(
    ("columns", "kind", "message"),
    [
        (
            {"y": [0.5, 1.5]},
            None,
            "row 0 of X: column 'y' holds numbers with fractions, such as 0.5. Are they quantities",
        ),
        ({"y": [1, 2], "z": ["a", "b"]}, None, "column 'z' of X is not a number in every row: several target columns"),
        ({"y": [1, 2], "z": [1, 2]}, "step-label", "'y', 'z': one label is one column; several columns of 0 and 1 are"),
        (
            {"y": [1, 0]},
            "step-labels",
            "several labels need several columns of 0 and 1: name them all with --label a,b",
        ),
        (
            {"y": [1, 0], "z": [1, 2]},
            "step-labels",
            "row 1 of X: several labels are 1 where a step has them and 0 where",
        ),
        ({"y": [1, NAN], "z": [1, 0]}, "step-labels", "row 1 of X lacks some of the labels: a step has all of them or"),
        ({"y": [1, NAN], "z": [1, 0]}, "step-quantity", "row 1 of X lacks some of the quantities: a step has all of"),
        ({"y": ["a", "b"]}, "step-quantity", "row 0 of X: 'a' in column 'y', a quantity, is not a number"),
        ({"y": [NAN, NAN]}, "step-quantity", "X has no value in column 'y'"),
        ({"y": [NAN, NAN], "z": [NAN, NAN]}, "step-labels", "X has no label in column 'y', 'z'"),
        ({"y": ["a", "a"]}, None, "X has one class, 'a' in column 'y': labels of at least two classes are needed"),
        ({"y": ["NA", ""]}, None, "X has no label in column 'y': labels of at least two classes are needed"),
        ({"y": [[1], [2]]}, None, "column 'y' of X holds lists or objects; a label is one value"),
        ({"z": [1, 2]}, None, "X has no column 'z2' (the label). Its columns: 'id', 'z'"),
    ],
)
def test_what_is_no_target(columns: dict[str, list[Any]], kind: str | None, message: str) -> None:
    label = ("z2",) if list(columns) == ["z"] else tuple(columns)
    with pytest.raises(UserError, match="^" + re.escape(message)):
        found({"id": [1, 1], **columns}, kind, label)


def test_free_text_is_no_class() -> None:
    with pytest.raises(
        UserError, match="X has 10,001 different labels in column 'y', more than 10,000; is it the colu"
    ):
        found({"id": [1] * 10_001, "y": [f"w{i}" for i in range(10_001)]})


@given(st.lists(st.lists(st.sampled_from([0, 1, -1]), min_size=1, max_size=4), min_size=1, max_size=8))
def test_the_task_does_not_depend_on_the_order_of_sequences(codes: list[list[int]]) -> None:
    labels = [["ab-"[code] for code in of_one] for of_one in codes]

    def outcome(chosen: list[list[str]]) -> str:
        try:
            return found(sequences(*chosen))[0].kind
        except UserError as error:
            return re.sub(r"row \d+ of X(; )?|\.", "", str(error)).strip()

    assert outcome(labels) == outcome(labels[::-1])


# --- Labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", " ", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null ", None]
)
def test_spellings_of_a_missing_label(text: str | None) -> None:
    assert label_text(text) is None


@pytest.mark.parametrize(
    ("text", "label"), [(" a b ", "a b"), ("none", "none"), ("na", "na"), ("O", "O"), ("None", "None")]
)
def test_what_is_a_label(text: str, label: str) -> None:
    assert label_text(text) == label


CLASSES: dict[str, tuple[list[Any], list[Any], tuple[str, ...], str]] = {
    "whole numbers": ([10, 9, -1], [-1, 9, 10], ("-1", "9", "10"), "integer"),
    "whole fractions": ([1.0, 0.0, NAN], [0, 1], ("0", "1"), "integer"),
    "text": (["B", "a", "A"], ["A", "B", "a"], ("A", "B", "a"), "text"),
    "numbers as text": (["10", "9"], ["9", "10"], ("9", "10"), "text"),
    "booleans": ([True, False], [False, True], ("false", "true"), "boolean"),
    "booleans as text": (["true", "false"], ["false", "true"], ("false", "true"), "text"),
}


@pytest.mark.parametrize(("labels", "values", "classes", "kind"), CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("known", [False, True])
def test_classes(labels: list[Any], values: list[Any], classes: tuple[str, ...], kind: str, known: bool) -> None:
    table = open_table({"id": [1] * len(labels), "y": labels}, sequence="id")
    task = LabelTask.find(table, "y", False, values if known else None)
    assert (task.classes, task.type) == (classes, kind)
    assert task.labels.tolist() == values
    truth, unseen = task.read(table)
    assert not unseen
    expected = [None if label != label else values.index(label) for label in labels]
    assert [None if code < 0 else code for code in truth.tolist()] == expected
    assert task.predicted(Outputs(np.eye(len(values), dtype=np.float32))).tolist() == values
    assert task_from_json(json.loads(json.dumps(task.to_json()))) == task


TASK = LabelTask(("y",), False, ("a", "b", "c"))


def test_labels_that_the_model_has_never_seen() -> None:
    table = open_table({"id": [1] * 8, "y": ["e", "a", "d", None, "c", "b", "e", "a"]}, sequence="id")
    with pytest.raises(
        UserError, match="^row 0 of X: the label 'e' is unknown to the model: it is none of the classes 'a"
    ):
        TASK.read(table)
    truth, unseen = TASK.read(table, most_unseen=0.5)
    assert truth.tolist() == [3, 0, 4, -1, 2, 1, 3, 0]
    assert unseen == {"e": 2, "d": 1}
    targets = TASK.targets(truth, None, truth)
    assert targets.labels is not None
    assert targets.labels.tolist() == [-1, 0, -1, -1, 2, 1, -1, 0]


@pytest.mark.parametrize(
    ("classes", "labels", "wrong"),
    [
        (("a", "b"), "a x b a y z w", "row 1 of X: the label 'x'"),  # most of them: another column
        (("B-X", "I-X", "O"), "B-X I-X B-Y O x", "row 4 of X: the label 'x'"),
        (("B-X", "I-X", "O"), "B-X I-X B-Y O", None),
        (("a", "b"), "a x b y", None),
    ],
)
def test_labels_that_are_of_another_column(classes: tuple[str, ...], labels: str, wrong: str | None) -> None:
    cells = labels.split()
    table, task = open_table({"id": [1] * len(cells), "y": cells}, sequence="id"), LabelTask(("y",), False, classes)
    assert task.read(table, most_unseen=1.0)[1]
    if wrong:
        with pytest.raises(UserError, match=wrong):
            task.read(table, most_unseen=0.5)
    else:
        assert task.read(table, most_unseen=0.5)[1]


def test_class_weights_by_name() -> None:
    task, truth = LabelTask(("y",), False, ("1", "2"), "integer"), np.array([0, 1, 1, -1], np.int32)
    for weight in ({2: 3.0}, {"2": 3.0}, {2.0: 3.0}):
        weights = task.targets(truth, weight, truth).weights
        assert weights is not None
        assert weights.tolist() == [1, 3, 3, 0]
    assert task.head({2: 3.0}).metrics == ()
    assert task.head().metrics == ("accuracy",)
    for other in (QuantityTask(("y",), False, (0.0,), (1.0,)), LabelSetTask(("y", "z"), False)):
        with pytest.raises(ValueError, match="^class_weight is for "):
            other.targets(np.zeros((1, 2), np.float32), {2: 3.0}, truth)


def test_the_majority_and_the_background() -> None:
    assert majority(TASK, np.array([1, 1, 0, -1])) == ("b", 2 / 3)
    assert check_background(TASK.classes, "b") == 1
    assert check_background(TASK.classes, None) is None
    with pytest.raises(
        UserError, match="^the background 'd' is not one of the model's 3 labels. They are 'a', 'b', 'c'$"
    ):
        check_background(TASK.classes, "d")


@pytest.mark.parametrize("factor", [1.0, 2.0**40, 2.0**-40])
def test_quantities_are_scaled(factor: float) -> None:
    truth = factor * np.array([[1.0, 7.0], [3.0, 7.0], [NAN, NAN]])
    task = QuantityTask(("y", "z"), False).fitted(truth)
    assert task.mean == (2 * factor, 7 * factor)
    assert task.scale == (factor, 1.0)
    targets = task.targets(truth, None, truth).values
    assert targets is not None
    assert targets[:2].tolist() == [[-1, 0], [1, 0]]
    assert task.predicted(Outputs(targets))[:2].tolist() == truth[:2].tolist()
    assert task_from_json(json.loads(json.dumps(task.to_json()))) == task


def test_a_quantity_that_is_constant_but_for_rounding() -> None:
    assert QuantityTask(("y",), False).fitted(np.full((10, 1), 0.1)).scale == (1.0,)


HOSTILE: list[dict[str, Any]] = [
    {"kind": "step-tags"},
    {"kind": None},
    {"columns": []},
    {"columns": ["a", "a"]},
    {"columns": "y"},
    {"columns": ["y", "z"]},
    {"classes": ["a"]},
    {"classes": ["a", "a"]},
    {"classes": [1, 2]},
    {"type": "float"},
    {"type": "integer"},
    {"type": "boolean"},
    {"kind": "step-quantity", "mean": [0], "scale": [0]},
    {"kind": "step-quantity", "mean": [0, 1], "scale": [1]},
    {"kind": "step-quantity", "mean": ["0"], "scale": [1]},
    {"kind": "sequence-quantity", "mean": [10**400], "scale": [1]},
    {"kind": "sequence-labels"},
]


@pytest.mark.parametrize("change", [*HOSTILE, None, [], "label"])
def test_a_hostile_task_is_refused(change: Any) -> None:
    data = TASK.to_json() | change if isinstance(change, dict) else change
    with pytest.raises(ModelFileError, match="^the model is damaged: its task (have no valid|are not an object)"):
        task_from_json(data)


def test_tasks_survive_json() -> None:
    assert len(KINDS) == 6
    for per_sequence in (False, True):
        for task in (
            LabelTask(("y",), per_sequence, ("a", "b")),
            LabelSetTask(("y", "z"), per_sequence),
            QuantityTask(("y",), per_sequence, (1.0,), (2.0,)),
        ):
            assert task.kind in KINDS
            assert task_from_json(json.loads(json.dumps(task.to_json()))) == task


# --- Tables of labels ------------------------------------------------------------------------------------------------


def labelled(labels: dict[str, list[Any]], ids: list[Any] | None = None, **options: Any) -> Any:
    steps = {"id": [1, 1, 2, 3, 3] if ids is None else ids, "x": [1.0, 2.0, 3.0, 4.0, 5.0]}
    quick: dict[str, Any] = {"units": 2, "layers": 1, "epochs": 1, "seed": 1}
    return bilstm.train(steps, labels=labels, sequence="id", **quick, **options)


@pytest.mark.parametrize(
    ("ids", "keys"),
    [
        ([1, 1, 2, 3, 3], [3, 1, 2]),
        ([1, 1, 2, 3, 3], ["3", "1 ", " 2"]),
        ([1, 1, 2, 3, 3], [3.0, 1.0, 2.0]),
        (["1", "1", "2", "3", "3"], [3, 1, 2]),
        ([1.0, 1.0, 2.0, 3.0, 3.0], ["3.0", "1", "2"]),
        (list("aabcc"), ["c", "a", "b"]),
    ],
)
def test_keys_of_other_types(ids: list[Any], keys: list[Any]) -> None:
    model = labelled({"id": keys, "y": ["q", "p", "q"]}, ids)
    assert model.task.kind == "sequence-label"
    steps = {"id": ids, "x": [1.0, 2.0, 3.0, 4.0, 5.0]}
    assert model.read(steps, labels={"id": keys, "y": ["q", "p", "q"]}, with_truth=True).known.tolist() == [0, 1, 1]


def test_sequences_and_labels_that_have_no_partner_are_noted() -> None:
    steps = open_table({"id": [1, 1, 2, 3, 4], "x": [1.0] * 5}, sequence="id")
    labels = open_table({"id": [9, 2, 3, 8], "y": ["a", "a", "b", "b"]}, sequence="id", label="labels")
    prepared = prepare(steps, ColumnOptions("id"), labels=labels, validation_split=0.0)
    assert prepared.training.known.tolist() == [-1, 0, 1, -1]
    assert prepared.notes == (
        "2 sequences without a row in labels, so without a label",
        "labels: 2 rows of sequences that are not in X",
    )


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ({"id": [1, 2, 2.0, 3], "y": [1, 2, 2, 1]}, {}, "row 2 of labels: sequence '2' has a second label"),
        (
            {"id": [1, 2, None], "y": [1, 2, 2]},
            {},
            "row 2 of labels: the cell in column 'id', the row's sequence, is missi",
        ),
        ({"id": [7, 8], "y": [1, 2]}, {}, "none of the sequences of data is in column 'id' of labels"),
        ({"ID": [1, 2], "y": [1, 2]}, {}, "labels has no column 'id' (the sequence of each row). Did you mean 'ID'?"),
        (
            {"id": [1, 2], "y": [1, 2], "z": [1, 2]},
            {},
            "which column of labels is the label? Name it with --label: 'id'",
        ),
        ({"id": [1, 2], "y": [1, 2]}, {"label": "w"}, "labels has no column 'w' (the label)."),
        ({"id": [1, 2], "y": ["", None]}, {}, "labels has no label in column 'y': labels of at least two classes"),
        (
            {"id": [1, 2], "y": [1, 2]},
            {"task": "step-label"},
            "labels has one row for each sequence, which does not go",
        ),
    ],
)
def test_tables_of_labels_that_do_not_fit(labels: dict[str, list[Any]], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match="^" + re.escape(message)):
        labelled(labels, **options)


def test_labels_of_arrays_have_no_key() -> None:
    X, labels = [{"x": [1.0]}, {"x": [2.0]}], {"id": [1, 2], "y": [1, 2]}
    with pytest.raises(
        UserError, match="labels has labels by sequence, so name the column of data that identifies sequ"
    ):
        bilstm.train(X, labels=labels)


def test_a_model_of_steps_takes_no_labels_of_sequences() -> None:
    table = MemoryTable(open_table({"id": [1, 1], "y": [1, 2]}, sequence="id").columns)  # type: ignore[attr-defined]
    target = TargetTable(table, ("y",), np.array([0]))
    with pytest.raises(UserError, match="^X has one row for each sequence, but the model labels time steps$"):
        read_truth(LabelTask(("y",), False, ("1", "2"), "integer"), target, table.sequences("id"))
