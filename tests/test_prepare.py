"""A table and what a person says about its columns become what training takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bilstm.data.reading import read_table
from bilstm.data.sources import open_table
from bilstm.data.table import Table
from bilstm.errors import UserError
from bilstm.model.columns import ColumnOptions, choose_features
from bilstm.model.datasets import read_dataset, read_groups, without_unseen
from bilstm.model.prepare import prepare
from bilstm.tasks import LabelTask

ROLES = ColumnOptions("id", ("label",))


def roles(sequence: str | None = "id", label: str | tuple[str, ...] = "label", **others: Any) -> ColumnOptions:
    return ColumnOptions(sequence, (label,) if isinstance(label, str) else label, **others)


def table(folder: Path, content: str, name: str = "table.csv") -> Table:
    (folder / name).write_text(content)
    return read_table(folder / name)


def made(**columns: Any) -> str:
    """A CSV of twelve rows in six sequences, with further columns of the given cells, repeated as needed."""
    lines = [",".join(["id", "label", *columns])]
    for row in range(12):
        lines.append(",".join([f"s{row // 2}", "ab"[row % 2], *(str(c[row % len(c)]) for c in columns.values())]))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1, 2, 3], "number"),
        (["1.5", "", "NA"], "number"),
        (["true", "False"], "number"),
        (["the", "a"], "text"),
        (["1", "x", "y"], "text"),
        (['"12,50 €"', "x"], "text"),
    ],
)
def test_what_a_column_holds_is_found(tmp_path: Path, cells: list[Any], kind: str) -> None:
    columns = prepare(table(tmp_path, made(x=cells)), ROLES).schema
    assert [(name, text.partition(",")[0]) for name, text in columns.describe()] == [("x", kind)]


def test_codes_are_text_if_so_said(tmp_path: Path) -> None:
    codes = ColumnOptions("id", ("label",), categorical=["code"])
    columns = prepare(table(tmp_path, made(code=[1, 2], x=[1, 2, 3])), codes).schema
    assert columns.features == ["x", "code"]
    assert set(columns.categorical[0].vocabulary) == {"1", "2"}


def test_all_other_columns_are_features(tmp_path: Path) -> None:
    found = prepare(table(tmp_path, made(t=[1, 2], x=[3, 4], word="pq")), roles("id", "label", order="t"))
    assert found.schema.features == ["x", "word"]
    assert found.schema.order == "t"
    only = prepare(table(tmp_path, made(t=[1, 2], x=[3, 4])), roles("id", "label", features=["t", "t"]))
    assert only.schema.features == ["t"]


def test_columns_without_name_or_value_are_left_out_and_said(tmp_path: Path) -> None:
    content = made(x=[1, 2], y=[""]).replace("id,label,x,y", "id,label,,y").replace(",1,", ",1,")
    content = "\n".join(line + ("," + ("z" if i == 0 else "7")) for i, line in enumerate(content.splitlines()))
    found = prepare(table(tmp_path, content), ROLES)
    assert found.schema.features == ["z"]
    assert found.notes == (
        "column_3: left out, since it has no name in the file",
        "y: left out, since it has no value",
    )


def test_conll_files_need_no_names(tmp_path: Path) -> None:
    content = "a X O\nb Y B\n\n" * 4
    found = prepare(table(tmp_path, content, "t.conll"), ColumnOptions())
    assert found.schema.features == ["token"]
    assert (found.schema.sequence, found.task.columns, found.schema.conll_columns) == ("sequence", ("label",), 3)
    assert found.notes == ("column_2: not used unless named with --features",)
    both = prepare(table(tmp_path, content, "t.conll"), ColumnOptions(features=["token", "column_2"]))
    assert both.schema.features == ["token", "column_2"]
    assert both.notes == ()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["1.0", "0.0", ""], ("0", "1")),
        (["B", "a", "A"], ("A", "B", "a")),
        (["true", "false"], ("false", "true")),
        (["NA", "x", "y"], ("x", "y")),
    ],
)
def test_classes_are_sorted(tmp_path: Path, labels: list[str], expected: tuple[str, ...]) -> None:
    content = made(y=labels, x=[1, 2])
    found = prepare(table(tmp_path, content), roles("id", "y", features=["x"]))
    assert isinstance(found.task, LabelTask)
    assert found.task.classes == expected


def test_only_training_rows_are_fitted_to(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    content = made(x=rng.normal(size=12).round(3), word=[f"w{i}" for i in range(6)])
    found = prepare(table(tmp_path, content), ROLES, validation_split=0.34, seed=3)
    assert found.validation is not None
    assert (len(found.training.values), len(found.validation.values)) == (4, 2)
    x = found.training.values.values[:, 0]
    assert abs(x.mean()) < 1e-6
    assert abs(x.std() - 1) < 1e-6
    rows = sorted([*found.training.rows.tolist(), *found.validation.rows.tolist()])
    assert rows == list(range(12))
    again = prepare(table(tmp_path, content), ROLES, validation_split=0.34, seed=3)
    np.testing.assert_array_equal(again.training.rows, found.training.rows)
    others = [prepare(table(tmp_path, content), ROLES, validation_split=0.34, seed=s).training.rows for s in range(9)]
    assert len({tuple(rows.tolist()) for rows in others}) > 3


def test_no_more_than_so_many_are_set_aside_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"{row // 2},{'ab'[row % 2]},{row}" for row in range(100)]
    source = table(tmp_path, "\n".join(["id,label,x", *rows]) + "\n")
    for most, count in ((1000, 5), (2, 2)):
        monkeypatch.setattr("bilstm.splitting.MOST_SET_ASIDE", most)
        found = prepare(source, ROLES)
        assert found.validation is not None
        assert len(found.validation.values) == count


def test_another_table_can_be_validated_on(tmp_path: Path) -> None:
    valid = table(tmp_path, "id,label,x\nq,b,1\nq,,2\n", "valid.csv")
    found = prepare(table(tmp_path, made(x=[1, 3])), ROLES, valid=valid)
    assert len(found.training.values) == 6
    assert found.validation is not None
    assert found.validation.known.tolist() == [1, -1]
    np.testing.assert_allclose(found.validation.values.values.ravel(), [-1, 0])


def test_nothing_is_set_aside_if_not_asked_for_or_not_possible(tmp_path: Path) -> None:
    assert prepare(table(tmp_path, made(x=[1, 3])), ROLES, validation_split=0).validation is None
    alone = prepare(table(tmp_path, "id,label,x\na,p,1\na,q,2\n"), ROLES)
    assert alone.validation is None
    assert alone.notes == (
        "only one sequence has labels, so there is no validation set, and training does not stop early",
    )


@pytest.mark.parametrize("group", ["patient", "ward"])
def test_a_column_tells_the_groups(tmp_path: Path, group: str) -> None:
    names = {"patient": [f"p{i // 4}" for i in range(24)], "ward": [i // 8 for i in range(24)]}
    rows = [f"s{i},{'pq'[j % 2]},{j},{names['patient'][i]},{names['ward'][i]}" for i in range(24) for j in range(3)]
    source = table(tmp_path, "\n".join(["id,label,x,patient,ward", *rows]))
    found = prepare(source, roles("id", "label", group=group), validation_split=0.3, seed=5)
    assert found.schema.features == ["x", "ward" if group == "patient" else "patient"]
    assert found.validation is not None
    sides = [{str(names[group][row // 3]) for row in part.rows} for part in (found.training, found.validation)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == round(0.3 * len(set(names[group])))
    by_chance = prepare(source, roles("id", "label"), validation_split=0.3, seed=5).validation
    assert by_chance is not None
    assert len({names["patient"][row // 3] for row in by_chance.rows}) > 2
    named = prepare(source, roles("id", "label", features=[group], group=group), seed=5)
    assert named.schema.features == [group]


def test_one_group_with_labels_stays(tmp_path: Path) -> None:
    content = "id,label,x,who\n" + "".join(f"{i},{'' if i > 3 else 'pq'[i % 2]},1,{i // 4}\n" for i in range(8))
    found = prepare(table(tmp_path, content), roles("id", "label", group="who"))
    assert found.validation is None
    assert found.notes == (
        "all labels are of one who, so there is no validation set, and training does not stop early",
    )


NAMES = "Its columns: 'id', 'label', 'x'"
WRONG: dict[str, tuple[str, ColumnOptions, str]] = {
    "no sequence": (
        made(x=[1]),
        ColumnOptions(label=("label",)),
        "name the column that identifies them with --sequence",
    ),
    "no label": (made(x=[1]), ColumnOptions("id"), "which column of .* is to be predicted"),
    "sequence not there": (made(x=[1]), roles("ID", "label"), rf"no column 'ID' .*Did you mean 'id'\? {NAMES}"),
    "label not there": (made(x=[1]), roles("id", "lable"), r"Did you mean 'label'\?"),
    "order not there": (made(x=[1]), roles("id", "label", order="t"), r"no column 't' \(the order within a sequence\)"),
    "feature not there": (made(x=[1]), roles("id", "label", features=["z"]), r"no column 'z' \(a feature\)"),
    "code not there": (made(x=[1]), roles("id", "label", categorical=["z"]), r"no column 'z' \(a feature\)"),
    "label a feature": (made(x=[1]), roles("id", "label", features=["label"]), "column 'label' is the label, so"),
    "sequence a feature": (made(x=[1]), roles("id", "label", categorical=["id"]), "column 'id' is the sequence, so"),
    "label the sequence": (made(x=[1]), roles("id", "id"), "one is named twice"),
    "order the label": (made(x=[1]), roles("id", "label", order="label"), "one is named twice"),
    "code no feature": (made(x=[1], y=[1]), roles("id", "label", features=["x"], categorical=["y"]), "not among"),
    "no feature": (made(), ROLES, "has no column left to predict from"),
    "nothing in the feature": (made(x=[""]), ROLES, "to predict from: all values are missing in 'x'"),
    "nothing in the features": (made(x=[""], y=[""]), ROLES, "to predict from: all values are missing in 'x', 'y'"),
    "nothing to drop": (made(x=[1]), roles("id", "label", drop=["z"]), r"no column 'z' \(to drop\)"),
    "label to drop": (made(x=[1]), roles("id", "label", drop=["label"]), "is the label, so it cannot be dropped"),
    "nothing in a feature": (made(x=[""]), roles("id", "label", features=["x"]), "no value in column 'x'"),
    "no label at all": (
        made(y=[""], x=[1]),
        roles("id", "y"),
        "has no label in column 'y': labels of at least two classes are needed",
    ),
    "one class": (made(y=["O", ""], x=[1]), roles("id", "y"), "has one class, 'O' in column 'y': labels of"),
    "a word among numbers": (
        made(x=[1, 2, 3, 4, 5, 6, "7o"]),
        ROLES,
        r"table.csv, line 8: '7o' in column 'x' is not a number, as 11 other cells of it are; correct it, leave the "
        r"cell empty, name it with --missing, or treat the column as text with --categorical x",
    ),
    "infinity": (made(x=[1, "inf"]), ROLES, "line 3: 'inf' in column 'x' is infinite"),
    "decimal comma": (made(x=['"1,5"', '"2,5"']), ROLES, "line 2: '1,5' in column 'x' has a decimal comma"),
    "dates": (made(x=["2024-01-01", "2024-01-02"]), ROLES, r"column 'x' of .* holds dates or times, .*--order x"),
    "times": (made(x=["12:30:00"]), ROLES, "column 'x' of .* holds dates or times"),
}


@pytest.mark.parametrize(("content", "options", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(tmp_path: Path, content: str, options: ColumnOptions, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare(table(tmp_path, content), options)


def test_quantities_are_no_classes(tmp_path: Path) -> None:
    content = "id,x,y\n" + "".join(f"s{i // 9},{i},{i / 7}\n" for i in range(2000))
    with pytest.raises(UserError, match=r"line 3: column 'y' holds numbers with fractions, .* \(--task step-quan"):
        prepare(table(tmp_path, content), roles("id", "y"))


@pytest.mark.parametrize("file", [False, True])
def test_groups_are_numbered_by_sequence(file: bool, tmp_path: Path) -> None:
    columns = {"id": [2, 1, 2, 1, 3], "t": [1, 2, 0, 1, 1], "who": ["b", "a", "b", "a", "b"]}
    content = "\n".join(",".join(map(str, row)) for row in [columns, *zip(*columns.values(), strict=True)])
    source = table(tmp_path, content) if file else open_table(columns, sequence="id")
    assert read_groups(source, "who", source.sequences("id", "t")).tolist() == [0, 1, 0]
    with pytest.raises(UserError, match="the group in column 't' is '0', but its sequence begins with '1'|is '1', but"):
        read_groups(source, "t", source.sequences("id", "t"))
    one = open_table({"id": [1, 2], "who": ["b", "b"]}, sequence="id")
    with pytest.raises(UserError, match="has one group only, 'b' in column 'who', so none can be set aside for valid"):
        read_groups(one, "who", one.sequences("id"))
    assert read_groups(one, "who", one.sequences("id"), least=1).tolist() == [0, 0]
    none = open_table({"id": [1, 2], "who": ["b", None]}, sequence="id")
    with pytest.raises(UserError, match="row 1 of X: the cell in column 'who', the group, is missing"):
        read_groups(none, "who", none.sequences("id"))


def test_groups_and_no_validation_set_exclude_each_other(tmp_path: Path) -> None:
    source = table(tmp_path, made(x=[1, 2], who=["a", "a", "b", "b"]))
    with pytest.raises(UserError, match="with validation_split=0 none is set aside: leave them out"):
        prepare(source, roles(group="who"), validation_split=0.0)
    with pytest.raises(UserError, match="with a validation table none is set aside: leave them out"):
        prepare(source, roles(group="who"), valid=source)


def test_labels_that_only_the_validation_table_has(tmp_path: Path) -> None:
    valid = table(tmp_path, "id,label,x\nq,b,1\nq,c,2\n", "valid.csv")
    prepared = prepare(table(tmp_path, made(x=[1, 3])), ROLES, valid=valid)
    assert prepared.validation is not None
    assert prepared.validation.known.tolist() == [1, -1]
    assert prepared.validation.notes[-1] == "1 step with a label that is unknown to the model ('c'), left out"
    whole = read_dataset(prepared.schema, prepared.task, valid)
    assert whole.known.tolist() == [1, 2]
    assert whole.notes[-1] == "1 step with a label that is unknown to the model ('c'), counted as wrong"
    assert whole.take([0]).unseen == whole.part(slice(0, 1)).unseen == whole.unseen == {"c": 1}
    known = read_dataset(prepared.schema, prepared.task, table(tmp_path, made(x=[1, 3])))
    assert without_unseen(known, prepared.task) is known


def test_a_table_of_texts_points_to_them(tmp_path: Path) -> None:
    source = table(tmp_path, "text,label\nhello there,a\nbye,b\n")
    with pytest.raises(UserError, match=r"which rows .* belong together\? .* If each row is a text, name its"):
        prepare(source, ColumnOptions(label=("label",)))


def test_features_of_sequences_are_no_default() -> None:
    rows = open_table([{"x": [1.0, 2.0], "age": 40, "y": ["a", "b"]}, {"x": [3.0], "age": 50, "y": ["a"]}])
    kinds, notes = choose_features(rows, ColumnOptions(label=("y",)))
    assert kinds == {"x": "numeric"}
    assert notes == ["age: not a list of steps, so not used unless named with --features"]
    assert choose_features(rows, ColumnOptions(label=("y",), features=["x", "age"]))[0] == dict.fromkeys(
        ("x", "age"), "numeric"
    )


def test_lists_are_no_features(tmp_path: Path) -> None:
    lists = table(tmp_path, '{"id": 1, "label": 1, "x": [1, 2]}\n', "t.ndjson")
    with pytest.raises(
        UserError, match="column 'x' of .* holds lists or objects; give each number a column of its own"
    ):
        prepare(lists, ROLES)
    with pytest.raises(UserError, match="column 'label' of .* holds lists or objects; a label is one value"):
        prepare(table(tmp_path, '{"id": 1, "label": {}, "x": 1}\n', "t.ndjson"), ROLES)


@pytest.mark.parametrize("gaps", [range(12), (2, 3), ()])
def test_notes_on_the_validation_set_count_its_own_steps(tmp_path: Path, gaps: Any) -> None:
    numbers = ["" if row in gaps else str(row) for row in range(12)]
    words = ["rare" + str(row) if row in gaps else "of" for row in range(12)]
    source = table(tmp_path, made(x=numbers if len(gaps) < 12 else [1, ""], y=range(12), word=words))
    prepared = prepare(source, ROLES, validation_split=0.5, seed=1)
    assert prepared.validation is not None
    parts = [prepared.validation, prepared.validation.take([0, 2]), prepared.validation.part(slice(1, 2))]
    for part in parts:
        found = prepared.schema.observed(source, part).observations
        # The oracle: a table of the part alone.
        lines = (tmp_path / "table.csv").read_text().splitlines()
        alone = table(tmp_path, "\n".join([lines[0], *(lines[1 + row] for row in part.rows)]) + "\n", "alone.csv")
        expected = prepared.schema.encode(alone, alone.sequences("id")).observations
        assert dataclasses.replace(found, distances={}) == dataclasses.replace(expected, distances={})
        assert found.distances == pytest.approx(expected.distances)
    assert prepared.validation.observations.steps == len(prepared.validation.rows)


def test_a_part_has_no_notes_of_the_whole(tmp_path: Path) -> None:
    source = table(tmp_path, made(x=[1, ""]))
    prepared = prepare(source, ROLES, validation_split=0.5)
    assert prepared.validation is not None
    assert prepared.validation.notes == ("x: 3 missing values, imputed with the mean of the training rows",)
    assert prepared.training.notes == prepared.validation.take([0]).notes == ()


@pytest.mark.parametrize("option", ["labels", "valid_labels"])
@pytest.mark.parametrize("per_sequence", [False, True])
def test_a_table_of_labels_that_is_not_named(tmp_path: Path, option: str, per_sequence: bool) -> None:
    lines = [f"s{row // 2},{row},{'ab'[row // 2 % 2 if per_sequence else row % 2]}" for row in range(12)]
    prepared = prepare(table(tmp_path, "\n".join(["id,x,label", *lines])), ROLES)
    unlabelled = table(tmp_path, "id,x\ns0,1\n", "unlabelled.csv")
    with pytest.raises(UserError, match="has no column 'label'") as caught:
        read_dataset(prepared.schema, prepared.task, unlabelled, option=option)
    hint = {"labels": "--labels (labels=…)", "valid_labels": "--valid-labels (valid_labels=…)"}[option]
    assert (f"if the labels are in a table of their own, name it with {hint}" in str(caught.value)) == per_sequence


@pytest.mark.parametrize("name", ["predicted", "predicted2", "predicted_state", "probability", "probability_of_a"])
@pytest.mark.parametrize("named", [False, True])
def test_predictions_among_the_features_are_noted(tmp_path: Path, name: str, named: bool) -> None:
    source = table(tmp_path, made(x=[1, 2], **{name: [3, 4]}, probable=[1, 2]))
    notes = prepare(source, roles(features=["x", name] if named else None)).notes
    note = f"{name}: look like predictions of a model; leave them out with --drop"
    assert (note in notes) == (not named)
    assert len(notes) == (not named)
