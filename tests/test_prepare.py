"""A table and a few names become what training takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.data.prepare import Roles, hold_out, prepare
from bilstm.data.reading import read_table
from bilstm.data.sequences import Sequences
from bilstm.data.table import Table
from bilstm.errors import UserError
from bilstm.ragged import offsets_of

ROLES = Roles(sequence="id", label="label")


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
    columns = prepare(table(tmp_path, made(x=cells)), ROLES).columns
    assert [(name, text.partition(",")[0]) for name, text in columns.describe()] == [("x", kind)]


def test_codes_are_text_if_so_said(tmp_path: Path) -> None:
    roles = Roles(sequence="id", label="label", categorical=["code"])
    columns = prepare(table(tmp_path, made(code=[1, 2], x=[1, 2, 3])), roles).columns
    assert columns.features == ["x", "code"]
    assert set(columns.categorical[0].vocabulary) == {"1", "2"}


def test_all_other_columns_are_features(tmp_path: Path) -> None:
    found = prepare(table(tmp_path, made(t=[1, 2], x=[3, 4], word="pq")), Roles("id", "label", order="t"))
    assert found.columns.features == ["x", "word"]
    assert found.columns.order == "t"
    only = prepare(table(tmp_path, made(t=[1, 2], x=[3, 4])), Roles("id", "label", features=["t", "t"]))
    assert only.columns.features == ["t"]


def test_columns_without_name_or_value_are_left_out_and_said(tmp_path: Path) -> None:
    content = made(x=[1, 2], y=[""]).replace("id,label,x,y", "id,label,,y").replace(",1,", ",1,")
    content = "\n".join(line + ("," + ("z" if i == 0 else "7")) for i, line in enumerate(content.splitlines()))
    found = prepare(table(tmp_path, content), ROLES)
    assert found.columns.features == ["z"]
    assert found.notes == (
        "column_3: left out, since it has no name in the file",
        "y: left out, since it has no value",
    )


def test_conll_files_need_no_names(tmp_path: Path) -> None:
    content = "a X O\nb Y B\n\n" * 4
    found = prepare(table(tmp_path, content, "t.conll"), Roles())
    assert found.columns.features == ["token"]
    assert (found.columns.sequence, found.columns.label, found.columns.conll_columns) == ("sequence", "label", 3)
    assert found.notes == ("column_2: not used unless named with --features",)
    both = prepare(table(tmp_path, content, "t.conll"), Roles(features=["token", "column_2"]))
    assert both.columns.features == ["token", "column_2"]
    assert both.notes == ()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["1.0", "0.0", ""], ("0", "1")),
        (["B", "a", "A"], ("A", "B", "a")),
        (["true", "false"], ("false", "true")),
        (["NA", "x"], ("NA", "x")),
    ],
)
def test_classes_are_sorted(tmp_path: Path, labels: list[str], expected: tuple[str, ...]) -> None:
    content = made(y=labels, x=[1, 2])
    found = prepare(table(tmp_path, content), Roles("id", "y", features=["x"]))
    assert found.columns.classes == expected


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


def test_no_more_than_so_many_are_held_out_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"{row // 2},{'ab'[row % 2]},{row}" for row in range(100)]
    source = table(tmp_path, "\n".join(["id,label,x", *rows]) + "\n")
    for most, count in ((1000, 5), (2, 2)):
        monkeypatch.setattr("bilstm.splitting.MOST_HELD_OUT", most)
        found = prepare(source, ROLES)
        assert found.validation is not None
        assert len(found.validation.values) == count


def test_another_table_can_be_held_out(tmp_path: Path) -> None:
    valid = table(tmp_path, "id,label,x\nq,b,1\nq,,2\n", "valid.csv")
    found = prepare(table(tmp_path, made(x=[1, 3])), ROLES, valid=valid)
    assert len(found.training.values) == 6
    assert found.validation is not None
    assert found.validation.labels.tolist() == [1, -1]
    np.testing.assert_allclose(found.validation.values.values.ravel(), [-1, 0])


def test_nothing_is_held_out_if_not_wanted_or_not_possible(tmp_path: Path) -> None:
    assert prepare(table(tmp_path, made(x=[1, 3])), ROLES, validation_split=0).validation is None
    alone = prepare(table(tmp_path, "id,label,x\na,p,1\na,q,2\n"), ROLES)
    assert alone.validation is None
    assert alone.notes == ("only one sequence has labels, so none is held out, and training does not stop early",)


@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=12),
    share=st.floats(0, 0.99),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_both_parts_have_labels(lengths: list[int], share: float, seed: int, data: st.DataObject) -> None:
    steps = sum(lengths)
    labelled = np.array(data.draw(st.lists(st.booleans(), min_size=steps, max_size=steps)))
    sequences = Sequences(offsets_of(lengths), np.arange(steps))
    training, held_out = hold_out(sequences, labelled, share, seed)
    assert sorted([*training.tolist(), *held_out.tolist()]) == list(range(len(lengths)))
    has_labels = [labelled[a:b].any() for a, b in zip(sequences.offsets, sequences.offsets[1:], strict=False)]
    assert all(has_labels[i] for i in held_out)
    if any(has_labels):
        assert any(has_labels[i] for i in training)
    if share and sum(has_labels) > 1:
        assert len(held_out) >= 1
        assert abs(len(held_out) - share * sum(has_labels)) <= 1


@given(
    groups=st.lists(st.sampled_from("abcd"), min_size=2, max_size=12).filter(lambda groups: len(set(groups)) > 1),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_no_group_is_on_both_sides(groups: list[str], share: float, seed: int) -> None:
    sequences = Sequences(offsets_of([2] * len(groups)), np.arange(2 * len(groups)))
    training, held_out = hold_out(sequences, np.ones(2 * len(groups), bool), share, seed, groups)
    assert sorted([*training.tolist(), *held_out.tolist()]) == list(range(len(groups)))
    sides = [{groups[i] for i in side} for side in (training, held_out)]
    assert not sides[0] & sides[1]
    assert all(sides)
    assert abs(len(sides[1]) - share * len(set(groups))) <= 1


@pytest.mark.parametrize("group", ["patient", "ward"])
def test_a_column_tells_the_groups(tmp_path: Path, group: str) -> None:
    names = {"patient": [f"p{i // 4}" for i in range(24)], "ward": [i // 8 for i in range(24)]}
    rows = [f"s{i},{'pq'[j % 2]},{j},{names['patient'][i]},{names['ward'][i]}" for i in range(24) for j in range(3)]
    source = table(tmp_path, "\n".join(["id,label,x,patient,ward", *rows]))
    found = prepare(source, Roles("id", "label", group=group), validation_split=0.3, seed=5)
    assert found.columns.features == ["x", "ward" if group == "patient" else "patient"]
    assert found.validation is not None
    sides = [{str(names[group][row // 3]) for row in part.rows} for part in (found.training, found.validation)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == round(0.3 * len(set(names[group])))
    by_chance = prepare(source, Roles("id", "label"), validation_split=0.3, seed=5).validation
    assert by_chance is not None
    assert len({names["patient"][row // 3] for row in by_chance.rows}) > 2
    named = prepare(source, Roles("id", "label", features=[group], group=group), seed=5)
    assert named.columns.features == [group]


def test_one_group_with_labels_stays(tmp_path: Path) -> None:
    content = "id,label,x,who\n" + "".join(f"{i},{'' if i > 3 else 'pq'[i % 2]},1,{i // 4}\n" for i in range(8))
    found = prepare(table(tmp_path, content), Roles("id", "label", group="who"))
    assert found.validation is None
    assert found.notes == ("all labels are of one who, so none is held out, and training does not stop early",)


NAMES = "Its columns: 'id', 'label', 'x'"
WRONG: dict[str, tuple[str, Roles, str]] = {
    "no sequence": (made(x=[1]), Roles(label="label"), "Name the column that tells with --sequence"),
    "no label": (made(x=[1]), Roles(sequence="id"), "which column of .* is to be predicted"),
    "sequence not there": (made(x=[1]), Roles("ID", "label"), rf"no column 'ID' .*Did you mean 'id'\? {NAMES}"),
    "label not there": (made(x=[1]), Roles("id", "lable"), r"Did you mean 'label'\?"),
    "order not there": (made(x=[1]), Roles("id", "label", "t"), r"no column 't' \(the order within a sequence\)"),
    "feature not there": (made(x=[1]), Roles("id", "label", features=["z"]), r"no column 'z' \(a feature\)"),
    "code not there": (made(x=[1]), Roles("id", "label", categorical=["z"]), r"no column 'z' \(a feature\)"),
    "label a feature": (made(x=[1]), Roles("id", "label", features=["label"]), "column 'label' is the label, so"),
    "sequence a feature": (made(x=[1]), Roles("id", "label", categorical=["id"]), "column 'id' is the sequence, so"),
    "label the sequence": (made(x=[1]), Roles("id", "id"), "one is named twice"),
    "order the label": (made(x=[1]), Roles("id", "label", "label"), "one is named twice"),
    "code no feature": (made(x=[1], y=[1]), Roles("id", "label", features=["x"], categorical=["y"]), "not among"),
    "no feature": (made(), ROLES, "has no column left to predict from"),
    "nothing in the feature": (made(x=[""]), ROLES, "has no column left to predict from"),
    "nothing in a feature": (made(x=[""]), Roles("id", "label", features=["x"]), "no value in column 'x'"),
    "no label at all": (
        made(y=[""], x=[1]),
        Roles("id", "y"),
        "has no label in column 'y': all of its cells are empty",
    ),
    "one class": (made(y=["O", ""], x=[1]), Roles("id", "y"), "has the same label 'O' in every labelled row of column"),
    "a word among numbers": (
        made(x=[1, 2, 3, 4, 5, 6, "7o"]),
        ROLES,
        r"table.csv, line 8: '7o' in column 'x' is not a number, as 11 other cells of it are; correct it, leave the "
        r"cell empty, or treat the column as text with --categorical x",
    ),
    "infinity": (made(x=[1, "inf"]), ROLES, "line 3: 'inf' in column 'x' is infinite"),
    "decimal comma": (made(x=['"1,5"', '"2,5"']), ROLES, "line 2: '1,5' in column 'x' has a decimal comma"),
    "dates": (made(x=["2024-01-01", "2024-01-02"]), ROLES, r"column 'x' of .* holds dates or times, .*--order x"),
    "times": (made(x=["12:30:00"]), ROLES, "column 'x' of .* holds dates or times"),
}


@pytest.mark.parametrize(("content", "roles", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(tmp_path: Path, content: str, roles: Roles, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare(table(tmp_path, content), roles)


def test_quantities_are_no_classes(tmp_path: Path) -> None:
    content = "id,x,y\n" + "".join(f"s{i // 9},{i},{i / 7}\n" for i in range(2000))
    with pytest.raises(UserError, match="different fractions in column 'y'; labels are classes"):
        prepare(table(tmp_path, content), Roles("id", "y"))


def test_free_text_is_no_class(tmp_path: Path) -> None:
    content = "id,x,y\n" + "".join(f"s{i // 9},{i},w{i}\n" for i in range(10_001))
    with pytest.raises(UserError, match="10,001 different labels in column 'y', more than 10,000"):
        prepare(table(tmp_path, content), Roles("id", "y"))


def test_lists_are_no_features(tmp_path: Path) -> None:
    lists = table(tmp_path, '{"id": 1, "label": 1, "x": [1, 2]}\n', "t.ndjson")
    with pytest.raises(
        UserError, match="column 'x' of .* holds lists or objects; give each number a column of its own"
    ):
        prepare(lists, ROLES)
    with pytest.raises(UserError, match="column 'label' of .* holds lists or objects; a label is one value"):
        prepare(table(tmp_path, '{"id": 1, "label": {}, "x": 1}\n', "t.ndjson"), ROLES)
