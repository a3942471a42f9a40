"""Arguments are checked with messages for the person who passed them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.arguments import check_choice, check_count, check_fraction, refuse_unsupported

pytestmark = pytest.mark.fast


@given(st.integers(-5, 5), st.integers(-3, 3))
def test_a_count_is_itself_or_refused(value: int, least: int) -> None:
    if value >= least:
        assert check_count("LSTM", "units", value, least) == value
        assert type(check_count("LSTM", "units", np.int64(value), least)) is int
    else:
        with pytest.raises(ValueError, match=f"LSTM: units must be at least {least}, not {value}"):
            check_count("LSTM", "units", value, least)


@pytest.mark.parametrize("value", [1.0, "3", None, True, [1], np.float32(2)])
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(TypeError, match="^" + re.escape(f"LSTM: units must be a whole number, not {value!r}") + "$"):
        check_count("LSTM", "units", value)


@given(st.floats(0, 1, exclude_max=True))
def test_a_fraction_is_itself(value: float) -> None:
    assert check_fraction("Dropout", "rate", value) == value


@pytest.mark.parametrize("value", [1.0, -0.1, 1, 2, float("nan"), float("inf")])
def test_a_fraction_out_of_range(value: float) -> None:
    with pytest.raises(
        ValueError, match="^" + re.escape(f"Dropout: rate must be at least 0 and below 1, not {value!r}") + "$"
    ):
        check_fraction("Dropout", "rate", value)


@pytest.mark.parametrize("value", ["much", None, [0.5]])
def test_a_fraction_that_is_no_number(value: Any) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(f"Dropout: rate must be a number, not {value!r}") + "$"):
        check_fraction("Dropout", "rate", value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("sums", "merge: mode must be one of 'sum', 'mul', None, not 'sums'; did you mean 'sum'?"),
        ("average", "merge: mode must be one of 'sum', 'mul', None, not 'average'"),
        (3, "merge: mode must be one of 'sum', 'mul', None, not 3"),
    ],
)
def test_a_choice_lists_what_there_is(value: Any, message: str) -> None:
    assert check_choice("merge", "mode", "mul", ("sum", "mul", None)) == "mul"
    assert check_choice("merge", "mode", None, ("sum", "mul", None)) is None
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        check_choice("merge", "mode", value, ("sum", "mul", None))


DEFAULTS = {"one": False, "several": (None, "auto")}


@pytest.mark.parametrize("given_", [{}, {"one": False}, {"several": None}, {"one": False, "several": "auto"}])
def test_what_changes_nothing_is_accepted(given_: dict[str, Any]) -> None:
    refuse_unsupported("fit", given_, DEFAULTS)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"one": True}, "fit: one=True is not supported (only False)"),
        ({"one": 0}, "fit: one=0 is not supported (only False)"),
        ({"several": "always"}, "fit: several='always' is not supported (only None or 'auto')"),
        ({"several": np.zeros(2)}, "fit: several=array([0., 0.]) is not supported (only None or 'auto')"),
    ],
)
def test_what_would_change_something_is_refused(given_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        refuse_unsupported("fit", given_, DEFAULTS)


def test_what_nobody_knows_is_refused() -> None:
    with pytest.raises(TypeError, match="fit: unexpected argument 'epcohs'"):
        refuse_unsupported("fit", {"epcohs": 3}, DEFAULTS)
