"""Dates in metadata and in filters: compared by instant, whatever their form."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filter_model import seconds
from omnivec.store.dates import around, instant, period
from store_samples import document

DAYS = st.dates(date(1, 1, 2), date(9999, 12, 29))
TIMES = st.datetimes(
    datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.timezones() | st.sampled_from([None, UTC])
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024", "2024-01-01T00:00:00"),
        ("2024-02", "2024-02-01T00:00:00"),
        ("2024-02-29", "2024-02-29T00:00:00"),
        ("2024-01-05T10", "2024-01-05T10:00:00"),
        ("2024-01-05t10:20z", "2024-01-05T10:20:00"),
        ("2024-01-05 10:20:30", "2024-01-05T10:20:30"),
        ("2024-01-05T10:20:30Z", "2024-01-05T10:20:30"),
        ("2024-01-05T10:20:30.000", "2024-01-05T10:20:30"),
        ("2024-01-05T10:20:30,120", "2024-01-05T10:20:30.12"),
        ("2024-01-05T10:20:30.123456789012+00:00", "2024-01-05T10:20:30.123456789012"),
        ("2024-01-01T00:30:00+02:00", "2023-12-31T22:30:00"),
        ("2023-12-31T23:30:00-0545", "2024-01-01T05:15:00"),
        ("2024-01-05T10:00+02", "2024-01-05T08:00:00"),
        ("1890-01-01T00:19:32+00:19:32", "1890-01-01T00:00:00"),
        ("9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59.999999999"),
        ("0001-01-01T00:00:00+02:00", "0001-01-01T00:00:00"),
        *[
            (text, None)
            for text in (
                *("", "now", "24-01-05", "2024-13-01", "2024-00-01", "2024-01-32", "2023-02-29", "2024-1-5"),
                *(
                    "2024-W01-1",
                    "20240105",
                    "0000-01-01",
                    "12024-01-01",
                    "-2024-01-01",
                    "2024-01-05 ",
                    " 2024",
                ),
                *(
                    "2024-01-05T",
                    "2024-01-05T24:00",
                    "2024-01-05T10:60",
                    "2024-01-05T10:20:60",
                    "2024-01-05Z",
                ),
                *("2024-01-05T10:20:30+24:00", "2024-01-05T10:20:30.", "2024-01-05T10:20:30 UTC", "２０２４"),
                *("2024-01-05T10+05:30:00.5", "2024-01-05\n", "2024-01-05_10:20:30", "2024-01-05T10.20.30"),
            )
        ],
        (None, None),
        (2024, None),
        (b"2024", None),
    ],
)
def test_instants_of_texts(text, expected):
    assert instant(text) == expected


@settings(max_examples=200, deadline=None)
@given(value=DAYS | TIMES, other=DAYS | TIMES)
def test_instants_are_ordered_as_time_is_and_lie_near_their_texts(value, other):
    text, before = value.isoformat(), other.isoformat()
    at, then, expected, earlier = instant(text), instant(before), seconds(text), seconds(before)
    assert at is not None and then is not None and expected is not None and earlier is not None
    assert (at < then) == (expected < earlier)
    assert at.startswith(period(value, "day"))
    least, most = around(period(value, "day"))
    assert least <= text <= most


def test_the_borders_of_the_calendar_are_near_themselves():
    for text in ("0001", "0001-01", "0001-01-01", "9999", "9999-12", "9999-12-31", "9998", "2024-12"):
        least, most = around(text)
        assert least <= text <= f"{text}-12-31T23:59:59+23:59" <= most


def test_a_day_is_found_whatever_its_form(catalogue):
    stored = {
        "day": date(2024, 1, 5),
        "naive": datetime(2024, 1, 5, 10),
        "aware": datetime(2024, 1, 6, 1, tzinfo=timezone(timedelta(hours=2))),
        "numpy": np.datetime64("2024-01-05T23:59:59.999999999"),
        "text": "2024-01-05 00:00:00Z",
        "listed": ["2020-01-01", "2024-01-05"],
        "earlier": datetime(2024, 1, 5, 1, tzinfo=timezone(timedelta(hours=2))),
        "later": np.datetime64("2024-01-06"),
        "month": np.datetime64("2024-01"),
        "other": "5 January 2024",
        "number": 20240105,
        "missing": np.datetime64("NaT"),
    }
    catalogue.write([document(name, metadata={"at": value}) for name, value in stored.items()])
    catalogue.write([document("without")])

    def matching(where):
        return {entry.id for entry in catalogue.documents({"at": where})}

    of_the_day = {"day", "naive", "aware", "numpy", "text", "listed"}
    dated = {*of_the_day, "earlier", "later", "month"}
    day = date(2024, 1, 5)
    assert matching(day) == matching({"$date": "2024-01-05"}) == of_the_day
    assert matching({"$in": [day, np.datetime64("2024-01-06")]}) == {*of_the_day, "later"}
    assert matching({"$gt": day}) == {"later"}
    assert matching({"$gte": day}) == {*of_the_day, "later"}
    assert matching({"$lt": day}) == {"earlier", "month", "listed"}
    assert matching({"$lte": day}) == dated - {"later"}
    assert matching({"$gte": day, "$lt": day + timedelta(1)}) == of_the_day
    assert matching({"$ne": day}) == {*stored, "without"} - of_the_day
    assert matching({"$not": {"$gte": day}}) == {*stored, "without"} - of_the_day - {"later"}
    assert matching(np.datetime64("2024-01")) == matching({"$date": "2024"}) == dated
    assert matching(datetime(2024, 1, 5)) == {"day", "text", "listed"}  # an instant, in UTC
    assert matching(datetime(2024, 1, 5, 12, tzinfo=timezone(timedelta(hours=2)))) == {"naive"}
    assert matching(np.datetime64("2024-01-05T23:59:59.999999999")) == {"numpy"}
    assert matching("2024-01-05") == {"day", "listed"}  # a text is compared as a text
    assert matching(None) == {"missing", "without"}


class Timestamp(datetime):
    """As pandas has it: a datetime with nanoseconds in its text."""

    def isoformat(self, sep="T", timespec="auto"):
        return f"{super().isoformat(sep, 'microseconds')}789"


def test_nanoseconds_of_pandas_count(catalogue):
    value = Timestamp(2024, 1, 5, 10, 0, 0, 123456)
    catalogue.write([document("a", metadata={"at": value})])
    assert catalogue.document("a").metadata["at"] == "2024-01-05T10:00:00.123456789"
    assert [entry.id for entry in catalogue.documents({"at": value})] == ["a"]
    assert catalogue.documents({"at": datetime(2024, 1, 5, 10, 0, 0, 123456)}) == []
    assert len(catalogue.documents({"at": {"$gt": datetime(2024, 1, 5, 10, 0, 0, 123456)}})) == 1


def test_why_a_date_passes_nothing(catalogue):
    catalogue.write([document("a", metadata={"name": "x", "at": "2020-01-01"})])
    assert catalogue.unmatched({"at": {"$gt": date(2024, 1, 5)}}) == ()
    (line,) = catalogue.unmatched({"name": {"$gt": {"$date": "2024-01-05"}}})
    assert line == "'name' is compared with '2024-01-05', a date, and no document has a date there"
    assert (
        catalogue.unmatched({"missing": None}) == catalogue.unmatched({"missing": {"$in": [1, None]}}) == ()
    )
