"""The demonstration: what it prints, draws and concludes, on runs small enough for a test."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bilstm import demo, plots
from bilstm.demo import Comparison, Contender, Difference, run_demo
from bilstm.errors import UserError

SMALL: dict[str, Any] = {"steps": 6, "units": 3, "sequences": 40, "seed": 5}


def run(**arguments: Any) -> tuple[Comparison, str]:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        comparison = run_demo(**arguments)
    return comparison, printed.getvalue()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, str, Path]:
    path = tmp_path_factory.mktemp("demo") / "curves.svg"
    return *run(**SMALL, out=path), path


# --- The tutorial's run ---------------------------------------------------------------------------------------------


def test_the_tutorials_run_reports_as_it_goes(small: tuple[Comparison, str, Path]) -> None:
    reports = re.findall(
        r"^after +(\d+) sequences   loss (\d\.\d{4})   accuracy ([01]\.\d{4})$", small[1], re.MULTILINE
    )
    assert [int(seen) for seen, _, _ in reports] == list(range(4, 41, 4))
    assert all(0.3 < float(loss) < 1.2 for _, loss, _ in reports)


def test_expected_and_predicted_stand_below_the_sequence(small: tuple[Comparison, str, Path]) -> None:
    lines = small[1].split("A new sequence\n")[1].splitlines()[:4]
    cells = {name: row for name, *row in map(str.split, lines)}
    assert list(cells) == ["Number", "Sum", "Expected", "Predicted"]
    assert all(len(row) == 6 for row in cells.values())
    sums = np.cumsum([float(number) for number in cells["Number"]])
    np.testing.assert_allclose(sums, [float(total) for total in cells["Sum"]], atol=0.04)
    assert cells["Expected"] == [str(int(float(total) >= 1.5)) for total in cells["Sum"]]
    assert set(cells["Predicted"]) <= {"0", "1"}
    assert len({len(line) for line in lines}) == 1


def test_accuracy_on_new_sequences_and_the_time_are_printed(small: tuple[Comparison, str, Path]) -> None:
    found = re.search(r"Accuracy on 1,000 new sequences: (0\.\d{4})\. Training took (\d+\.\d{3}) s\.", small[1])
    assert found
    assert 0.3 < float(found[1]) < 1
    assert 0 < float(found[2]) < 10


def test_a_thousand_sequences_teach_the_tutorials_problem(capsys: pytest.CaptureFixture[str]) -> None:
    demo.run_tutorial(Contender("bidirectional", 20), steps=10, sequences=1000, seed=1)
    found = re.search(r"new sequences: (0\.\d{4})", capsys.readouterr().out)
    assert found
    assert float(found[1]) > 0.9


def test_long_sequences_are_shown_in_blocks_of_ten(capsys: pytest.CaptureFixture[str]) -> None:
    demo.run_tutorial(Contender("bidirectional", 2, "sum"), steps=23, sequences=3, seed=1)
    printed, progress = capsys.readouterr()
    assert progress == ""  # a bar is for terminals
    assert [len(line.split()) - 1 for line in re.findall(r"^  Expected .*$", printed, re.MULTILINE)] == [10, 10, 3]
    assert "bidirectional, 2 units, sum, " in printed


# --- The comparison -------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_figures_and_another_others(
    small: tuple[Comparison, str, Path], tmp_path: Path
) -> None:
    again, printed = run(**SMALL, out=tmp_path / "again.svg")
    assert (again.accuracy == small[0].accuracy).all()
    assert (tmp_path / "again.svg").read_bytes() == small[2].read_bytes()
    untimed = [re.sub(r"\d+\.\d+ s|Learning curves: .*", "", text) for text in (printed, small[1])]
    assert untimed[0] == untimed[1]
    other, _ = run(**SMALL | {"seed": 6}, out=tmp_path)
    assert (other.accuracy != small[0].accuracy).any()


def test_the_shape_of_the_comparison(small: tuple[Comparison, str, Path]) -> None:
    comparison = small[0]
    assert comparison.accuracy.shape == (3, 4, 5, 21)
    assert comparison.seen.tolist() == list(range(0, 41, 2))
    assert ((comparison.accuracy >= 0) & (comparison.accuracy <= 1)).all()
    assert ((comparison.baseline >= 0.5) & (comparison.baseline < 0.8)).all()
    assert [contender.direction for contender in comparison.contenders] == [
        "forward",
        "forward",
        "backward",
        "bidirectional",
    ]


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave"])
@pytest.mark.parametrize("units", [1, 20])
def test_the_larger_forward_network_has_about_as_many_parameters(units: int, merge_mode: str) -> None:
    wanted = Contender("bidirectional", units, merge_mode).parameters
    found = demo.forward_units(wanted)
    distances = [abs(Contender("forward", candidate).parameters - wanted) for candidate in range(1, 2 * units + 2)]
    assert distances[found - 1] == min(distances)


@pytest.mark.parametrize("direction", ["forward", "backward", "bidirectional"])
def test_parameters_are_counted_without_a_network(direction: str) -> None:
    contender = Contender(direction, 5, "sum")
    assert contender.parameters == contender.build(steps=1, seed=0).count_params()
    assert Contender(direction, 100_000).parameters > 4e10  # no machine could build this one


def test_parameters_of_the_tutorials_networks() -> None:
    inputs, units = 1, 20
    lstm = 4 * units * (inputs + units + 1)
    assert Contender("forward", units).parameters == lstm + units + 1
    assert Contender("backward", units).parameters == lstm + units + 1
    assert Contender("bidirectional", units).parameters == 2 * lstm + 2 * units + 1
    assert Contender("bidirectional", units, "ave").parameters == 2 * lstm + units + 1


@pytest.mark.parametrize("direction", ["forward", "backward", "bidirectional"])
def test_what_a_network_sees(direction: str) -> None:
    """Another number at step 3 changes the answers of that step and of those that it is passed on to, no others."""
    model = Contender(direction, 4).build(steps=7, seed=0)
    X = np.random.default_rng(0).random((1, 7, 1), np.float32)
    changed = X.copy()
    changed[0, 3] += 0.5
    differs = (model.predict(X, verbose=0) != model.predict(changed, verbose=0))[0, :, 0]
    expected = {"forward": [0, 0, 0, 1, 1, 1, 1], "backward": [1, 1, 1, 1, 0, 0, 0], "bidirectional": [1] * 7}
    assert differs.astype(int).tolist() == expected[direction]


def test_only_those_that_see_the_future_learn_the_echo() -> None:
    contenders = tuple(Contender(direction, 12) for direction in ("forward", "backward", "bidirectional"))
    comparison = demo.compare(contenders, steps=6, sequences=1500, seed=1)
    forward, backward, both = comparison.accuracy[2, :, :, -1].mean(axis=-1)
    assert forward < comparison.baseline[2] + 0.03
    assert min(backward, both) > 0.85


@pytest.mark.fast
@pytest.mark.parametrize(("sequences", "checkpoints"), [(1, [0, 1]), (7, list(range(8)))])
def test_few_sequences_have_few_checkpoints(sequences: int, checkpoints: list[int], tmp_path: Path) -> None:
    comparison, _ = run(**SMALL | {"sequences": sequences}, out=tmp_path)
    assert comparison.seen.tolist() == checkpoints


# --- Table and verdict ----------------------------------------------------------------------------------------------


def invented(**final: tuple[float, float]) -> Comparison:
    """A comparison of curves rising straight from 0.5 to the given (mean, spread) on every problem."""
    means = {"forward": (0.8, 0.0), "as_large": (0.8, 0.0), "backward": (0.7, 0.0), "both": (0.8, 0.0)} | final
    seen = np.arange(0, 101, 5)
    seeds = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    ends = np.array([mean + spread * np.roll(seeds, row) for row, (mean, spread) in enumerate(means.values())])
    curves = 0.5 + (ends[..., np.newaxis] - 0.5) * seen / 100
    contenders = (
        Contender("forward", 20),
        Contender("forward", 29),
        Contender("backward", 20),
        Contender("bidirectional", 20),
    )
    return Comparison(
        contenders,
        (1781, 3626, 1781, 3561),
        ("cumulative sum", "half of total", "echo"),
        seen,
        np.stack([curves] * 3),
        np.array([0.55, 0.54, 0.525]),
    )


def test_the_table() -> None:
    lines = demo.table(invented(forward=(0.9, 0.02), both=(1.0, 0.0))).splitlines()
    assert "100 sequences" in lines[0]
    assert lines[2].split() == ["parameters", "cumulative", "sum", "half", "of", "total", "echo"]
    assert lines[3].split() == ["majority", "class", "–", "55.0", "54.0", "52.5"]
    assert lines[4].split() == ["forward,", "20", "units", "1,781", *["90.0", "±", "1.6"] * 3]
    assert lines[7].split() == ["bidirectional,", "20", "units", "3,561", *["100.0", "±", "0.0"] * 3]
    assert len({line.index("±") for line in lines[4:]}) == 1
    assert lines[3].index("55.0") == lines[4].index("90.0")


@pytest.mark.parametrize(
    ("final", "first", "second"),
    [
        ({"both": (0.95, 0.005)}, "faster and more fully", "faster and more fully"),
        ({"both": (0.7, 0.005)}, "slower and less fully", "slower and less fully"),
        ({"as_large": (0.9, 0.2)}, "neither clearly faster nor clearly more fully", "neither clearly"),
        ({"forward": (0.7, 0.001), "as_large": (0.9, 0.001)}, "faster and more fully", "slower and less fully"),
    ],
)
def test_the_verdict_follows_the_figures(final: dict[str, tuple[float, float]], first: str, second: str) -> None:
    sentence = demo.verdict(invented(**final))
    assert f"bidirectional learns {first} than forward (" in sentence
    assert f", and {second}" in sentence
    assert sentence.count(". ") == 0
    assert sentence.endswith(".")


def test_the_verdict_says_when_the_goal_was_reached() -> None:
    sentence = demo.verdict(invented(both=(0.98, 0.0), forward=(0.9, 0.0)))
    assert "(+8.0 ± 0.0 points at the end; 90% after 85 sequences, forward after 100 sequences)" in sentence
    assert "(+18.0 ± 0.0 points; never)" in sentence
    assert (
        "on half of total and echo, which need the future, it differs from forward by +8.0 ± 0.0 and +8.0 ± 0.0 points"
        in sentence
    )


def test_a_difference_is_paired_and_has_students_interval() -> None:
    both = np.array([[0.5, 0.70], [0.6, 0.80], [0.7, 0.90], [0.6, 0.80], [0.6, 0.80]])
    forward = both - np.array([[0, 0.01], [0, 0.02], [0, 0.03], [0, 0.02], [0, 0.02]])
    end = Difference.between(both, forward)
    assert end.mean == pytest.approx(2)
    assert end.margin == pytest.approx(2.776 * 0.5**0.5 / 5**0.5, rel=1e-6)
    assert Difference.between(both, forward, over_the_curve=True).mean == pytest.approx(1)
    assert str(end) == "+2.0 ± 0.9"
    assert [Difference(mean, 1.0).word("more", "less") for mean in (2, 0.5, -0.5, -2)] == [
        "more",
        "not clearly more",
        "not clearly more",
        "less",
    ]


# --- The picture ----------------------------------------------------------------------------------------------------

PNG, SVG, PDF = b"\x89PNG\r\n\x1a\n", b"<?xml", b"%PDF"


def test_the_picture_names_every_network_and_problem(small: tuple[Comparison, str, Path]) -> None:
    comparison, printed, path = small
    figure = path.read_text(encoding="utf-8")
    for name in (*comparison.problems, *(contender.name for contender in comparison.contenders), "majority class"):
        assert f"<!-- {name} -->" in figure
    assert f"Learning curves: {path}" in printed


@pytest.mark.parametrize(
    ("out", "written", "start"),
    [
        ("curves.png", "curves.png", PNG),
        ("curves.SVG", "curves.SVG", SVG),
        ("curves.pdf", "curves.pdf", PDF),
        ("new/folder", "new/folder/learning_curves.png", PNG),
        (".", "learning_curves.png", PNG),
        (None, "bilstm_demo.png", PNG),
    ],
)
def test_where_and_how_the_picture_is_written(
    out: str | None, written: str, start: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(**SMALL | {"sequences": 4}, out=out)
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [written]
    assert (tmp_path / written).read_bytes().startswith(start)


def test_lines_and_bands_are_the_means_and_spreads() -> None:
    accuracy = np.random.default_rng(0).random((2, 5, 4))
    figure = plots.learning_curves([plots.Panel("echo", accuracy, 0.55)], ["one", "two"], [0, 5, 10, 15], "title")
    (axes,) = figure.axes
    for line, band, values in zip(axes.lines, axes.collections, accuracy, strict=False):
        np.testing.assert_allclose(line.get_ydata(), values.mean(axis=0))
        outline = band.get_paths()[0].vertices
        for step, seen in enumerate([0, 5, 10, 15]):
            edges = outline[outline[:, 0] == seen][:, 1]
            assert edges.min() == pytest.approx(values[:, step].mean() - values[:, step].std(ddof=1))
            assert edges.max() == pytest.approx(min(1, values[:, step].mean() + values[:, step].std(ddof=1)))
    assert axes.lines[2].get_ydata() == [0.55, 0.55]
    assert axes.get_title("left") == "echo"


# --- Errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 1}, "steps must be at least 2, not 1"),
        ({"units": 0}, "units must be at least 1, not 0"),
        ({"sequences": 0}, "sequences must be at least 1, not 0"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"merge_mode": "max"}, "the merge mode must be one of concat, sum, mul, ave, not 'max'"),
        ({"out": "curves.jpg"}, r"cannot write a picture as curves.jpg: the ending must be .png, .svg or .pdf"),
        ({"out": "file/curves.png"}, "cannot make the folder file: file exists"),
        ({"out": "folder.png"}, "cannot write folder.png: it is a folder"),
    ],
)
def test_errors_come_before_the_work(
    arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(UserError, match=message):
        run_demo(**SMALL | arguments)
    assert printed.getvalue() == ""
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder.png"]


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    figure = plots.learning_curves([plots.Panel("echo", np.ones((1, 5, 2)), 0.5)], ["one"], [0, 1], "title")
    with pytest.raises(UserError, match="cannot write .*gone/curves.png: no such file or directory"):
        plots.save(figure, tmp_path / "gone" / "curves.png")
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(UserError, match="cannot write .*taken.png: is a directory"):
        plots.save(figure, tmp_path / "taken.png")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.png"]
