"""Texts of dates and times -> what they can be sorted by: nanoseconds, in Coordinated Universal Time where they say so.

The parsing is our own, so that it depends on no library's version, loses no nanosecond and drops no offset.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple

from bilstm.errors import UserError, shown

Form = Literal["date", "zoned", "clock"]
SECOND = 10**9
DAY = 86_400 * SECOND
HALF_DAY = DAY // 2
FORMS = {
    "date": "has no offset from UTC",
    "zoned": "has an offset from UTC or a zone",
    "clock": "is a time without a date",
}
_MOMENT = re.compile(
    r"(\d{4})(?:-(\d{1,2})-(\d{1,2})|/(\d{1,2})/(\d{1,2})|(\d{2})(\d{2}))"
    r"(?:[Tt_ ]+(\d{1,2})(?:(?::(?=\d)|(?=\d\d))(\d{1,2})(?:(?::(?=\d)|(?=\d\d))(\d{1,2})(?:[.,](\d+))?)?)?)?"
    r" ?(Z|z|[+-]\d{2}(?::?\d{2}(?::?\d{2})?)?)?"
    r"(?: ?\[?([A-Za-z][\w+/-]*)\]?)?"
)
_CLOCK = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:[.,](\d+))?)?")
_WEEK = re.compile(r"\d{4}-?W\d{2}.*")
_ANY = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
_EPOCH = datetime.date(1970, 1, 1).toordinal()


class Moment(NamedTuple):
    """When something was.

    Attributes:
        key: nanoseconds since 1970, or since midnight for a time without a date.
        form: "date" for what has no offset from UTC, "zoned" for what has, "clock" for a time without a date.
    """

    key: int
    form: Form


def read_moment(text: str) -> Moment | None:
    """The moment that a text of ISO 8601 or near it says; None if it says none.

    Dates are written as 2024-06-01, times as 10:01 or 10:01:00.5, with up to nine decimals, after a T or a blank. An
    offset such as Z, +02:00 or +0200 counts, and so does a zone: `Europe/Berlin`, in brackets or not.
    """
    text = text.strip(" \t")
    clock = _CLOCK.fullmatch(text)
    if clock:
        of_day = _of_day(clock[1], clock[2], clock[3], clock[4])
        return None if of_day is None else Moment(of_day, "clock")
    match = _MOMENT.fullmatch(text)
    if not match:
        return _of_week(text) if _WEEK.fullmatch(text) else None
    year, month, day = (part for part in match.groups()[:7] if part is not None)
    hour, minute, second, fraction, offset, zone = match.groups()[7:]
    of_day = _of_day(hour or "0", minute or "0", second or "0", fraction)
    try:
        days = datetime.date(int(year), int(month), int(day)).toordinal() - _EPOCH
    except ValueError:
        return None
    if of_day is None or (hour is None and (offset or zone)) or (zone and _zone(zone) is None):
        return None
    local = days * DAY + of_day
    if offset:
        seconds = _offset(offset)
        return None if seconds is None else Moment(local - seconds * SECOND, "zoned")
    if not zone:
        return Moment(local, "date")
    seconds = _zone_offset(zone, local // SECOND)
    return None if seconds is None else Moment(local - seconds * SECOND, "zoned")


def _of_week(text: str) -> Moment | None:
    """The moment of a text such as 2024-W23-1T10:00."""
    try:
        return key_of(datetime.datetime.fromisoformat(text))
    except ValueError:
        return None


def formatted(time_format: str) -> Callable[[str], Moment | None]:
    """A reader of texts in a format of `datetime.strptime`; seconds may have up to nine decimals, after `.` or `,`.

    Raises:
        UserError: it is no such format.
    """
    has_date = any(f"%{letter}" in time_format for letter in "dmbByYjcxGVuDF")
    has_fraction = "%f" in time_format
    long_fraction = re.compile(r"([.,]\d{6})(\d+)")
    try:
        datetime.datetime.strptime(_ANY.strftime(time_format), time_format)
    except (ValueError, re.error) as error:
        raise UserError(
            f"--time-format {shown(time_format)} is no format of times such as %d.%m.%Y %H:%M: {error}"
        ) from None

    def read(text: str) -> Moment | None:
        text, rest = text.strip(" \t"), 0
        more = long_fraction.search(text) if has_fraction else None
        if more:  # strptime knows microseconds
            if len(more[2]) > 3:
                return None
            text, rest = text[: more.start(2)] + text[more.end(2) :], int(more[2].ljust(3, "0"))
        try:
            moment = datetime.datetime.strptime(text, time_format)
        except ValueError:
            return None
        of_day = ((moment.hour * 60 + moment.minute) * 60 + moment.second) * SECOND + moment.microsecond * 1000 + rest
        if not has_date:
            return Moment(of_day, "clock")
        local = (moment.toordinal() - _EPOCH) * DAY + of_day
        offset = moment.utcoffset()
        if offset is None:
            return Moment(local, "date")
        return Moment(local - (offset // datetime.timedelta(microseconds=1)) * 1000, "zoned")

    return read


def reader(time_format: str | None) -> Callable[[str], Moment | None]:
    """What reads texts of times: in a stated format, or else as ISO 8601 has them."""
    return read_moment if time_format is None else formatted(time_format)


def key_of(value: datetime.date | datetime.time | datetime.datetime) -> Moment:
    """The moment that one of Python's dates or times says."""
    if isinstance(value, datetime.time):
        seconds = (value.hour * 60 + value.minute) * 60 + value.second
        return Moment(seconds * SECOND + value.microsecond * 1000, "clock")
    found = read_moment(value.isoformat())
    assert found is not None
    return found


def past_midnight(where: str, name: str, cell: str, before: str) -> str:
    """The message of a time without a date that falls back."""
    return (
        f"{where}: {shown(cell)} in column {name!r} comes after {shown(before)}: times without a date cannot order "
        f"rows past midnight. Leave out --order if the rows are in order, name the column of the date as well (--order "
        f"date,time), or say with --one-day that all times of a sequence are of one day"
    )


def _of_day(hour: str, minute: str, second: str | None, fraction: str | None) -> int | None:
    """Nanoseconds since midnight, None if there is no such time."""
    h, m, s = int(hour), int(minute), int(second or 0)
    if (
        m > 59
        or s > 59
        or h > 24
        or (h == 24 and (m or s or int(fraction or 0)))
        or len((fraction or "").rstrip("0")) > 9
    ):
        return None
    return ((h * 60 + m) * 60 + s) * SECOND + int((fraction or "")[:9].ljust(9, "0"))


@lru_cache(maxsize=1024)
def _offset(text: str) -> int | None:
    """The seconds of an offset such as +02:00, None if there is no such offset."""
    if text in "Zz":
        return 0
    digits = text[1:].replace(":", "").ljust(6, "0")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    total = (hours * 60 + minutes) * 60 + seconds
    return -total if text[0] == "-" else total


@lru_cache(maxsize=256)
def _zone(name: str) -> datetime.tzinfo | None:
    if name.upper() in ("UTC", "GMT"):
        return datetime.UTC
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _zone_offset(name: str, local: int) -> int | None:
    """The seconds of a zone's offset at a local time, None where there is no such zone, or two times or none."""
    zone = _zone(name)
    if zone is None:
        return None
    try:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=local)
    except OverflowError:
        return None
    offsets = {moment.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)}
    offset = offsets.pop()
    return None if offsets or offset is None else offset // datetime.timedelta(seconds=1)
