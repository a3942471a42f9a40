"""Texts of times are read to the nanosecond, offsets and zones count, and what is no time is none."""

from __future__ import annotations

import datetime
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.data.times import SECOND, Moment, formatted, key_of, read_moment, reader
from bilstm.errors import UserError

pytestmark = pytest.mark.fast

EPOCH = datetime.datetime(1970, 1, 1)
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes)))
NAIVE = st.datetimes(datetime.datetime(1, 1, 3), datetime.datetime(9999, 12, 29))


def nanoseconds(moment: datetime.datetime) -> int:
    return (moment - EPOCH) // datetime.timedelta(microseconds=1) * 1000


@given(NAIVE, st.integers(0, 999), st.sampled_from("T t_ "), st.sampled_from(".,"))
def test_dates_and_times(moment: datetime.datetime, rest: int, between: str, sign: str) -> None:
    text = f"{moment:%m-%d}{between}{moment:%H:%M:%S}{sign}{moment.microsecond:06}{rest:03}"
    expected = Moment(nanoseconds(moment) + rest, "date")
    assert read_moment(f"{moment.year:04}-{text}") == expected
    assert read_moment(f"  {moment.year:04}/{text.replace('-', '/', 1)}\t") == expected


@given(NAIVE, OFFSETS)
def test_offsets_count(moment: datetime.datetime, offset: datetime.timezone) -> None:
    seconds = offset.utcoffset(None) // datetime.timedelta(seconds=1)
    aware = moment.replace(tzinfo=offset)
    expected = Moment(nanoseconds(moment) - seconds * SECOND, "zoned")
    assert read_moment(aware.isoformat()) == expected
    assert key_of(aware) == expected
    text = f"{moment.year:04}{moment:%m%dT%H%M%S.%f}"
    assert read_moment(f"{text}{aware.strftime('%z')}") == expected
    assert formatted("%d.%m.%Y %H:%M:%S.%f %z")(
        f"{moment:%d.%m.}{moment.year:04} {moment:%H:%M:%S.%f} {aware.strftime('%z')}"
    ) == expected  # fmt: skip


@given(
    st.datetimes(datetime.datetime(1950, 1, 1), datetime.datetime(2030, 1, 1)).map(lambda m: m.replace(microsecond=0)),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"]),
)
def test_zones_count(moment: datetime.datetime, name: str) -> None:
    zone = zoneinfo.ZoneInfo(name)
    offsets = {moment.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)}
    found = read_moment(f"{moment.isoformat(' ')} {name}")
    assert found == read_moment(f"{moment.isoformat()}[{name}]")
    if len(offsets) > 1:  # a clock shows such a time twice, or never
        assert found is None
    else:
        (offset,) = offsets
        assert offset is not None
        assert found == Moment(nanoseconds(moment - offset), "zoned")


@given(st.times(), st.integers(0, 999))
def test_times_without_a_date(time: datetime.time, rest: int) -> None:
    since = ((time.hour * 60 + time.minute) * 60 + time.second) * SECOND + time.microsecond * 1000
    assert read_moment(f"{time:%H:%M:%S.%f}{rest:03}") == Moment(since + rest, "clock")
    assert key_of(time) == Moment(since, "clock")
    assert formatted("%I-%M-%S,%f %p")(f"{time:%I-%M-%S},{time.microsecond:06}{rest:03} {time:%p}") == Moment(
        since + rest, "clock"
    )


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "2024", "2024-06", "2024-13-01", "2024-06-31", "2023-02-29", "24-06-01", "01.06.2024", "06/01/2024"),
        *("2024-06-01T", "2024-06-01T24:01", "2024-06-01T10:60", "2024-06-01T10:00:60", "2024-06-01T10:00+24:00"),
        *("2024-06-01Z", "2024-06-01T10:00 Nowhere/Here", "2024-06-01T10:00:00.0000000001", "10", "10:", "25:00"),
        *("10:00 PM", "-10:00", "2024-06-01T10:00Z extra", "2024-06-01\u00a010:00", "2024-W60-1"),
    ],
)
def test_what_is_no_time(text: str) -> None:
    assert read_moment(text) is None


@pytest.mark.parametrize("time_format", ["%Q", "%", "%d %d"])
def test_what_is_no_format(time_format: str) -> None:
    with pytest.raises(UserError, match="is no format of times such as"):
        reader(time_format)
