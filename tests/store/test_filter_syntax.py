"""Filters as they are written on a command line."""

from __future__ import annotations

import pytest

from omnivec.errors import FilterError
from omnivec.store.filter_syntax import parse_where
from omnivec.store.filters import compile_where


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"year": {"$gte": 2024}}', {"year": {"$gte": 2024}}),
        ("year=2024", {"year": {"$eq": 2024}}),
        ("year!=2024", {"year": {"$ne": 2024}}),
        (" year >= 2.5 ", {"year": {"$gte": 2.5}}),
        ("year>-1e3", {"year": {"$gt": -1000.0}}),
        ("year<=7", {"year": {"$lte": 7}}),
        ("year<7", {"year": {"$lt": 7}}),
        ('year="2024"', {"year": {"$eq": "2024"}}),
        ('name="a\\nb"', {"name": {"$eq": "a\nb"}}),
        ('name="C:\\x"', {"name": {"$eq": "C:\\x"}}),
        ("a.b=true", {"a.b": {"$eq": True}}),
        ("a=null", {"a": {"$eq": None}}),
        ("a=NaN", {"a": {"$eq": "NaN"}}),
        ("a=1e999", {"a": {"$eq": "1e999"}}),
        ("suffix==.md", {"suffix": {"$eq": ".md"}}),
        ("dc.title^=On ", {"dc.title": {"$prefix": "On"}}),
        ("name*=2024", {"name": {"$contains": "2024"}}),
        ("a=", {"a": {"$eq": ""}}),
        ("a=b=c", {"a": {"$eq": "b=c"}}),
        ("a=[1]", {"a": {"$eq": "[1]"}}),
        ("name~=*.md", {"name": {"$glob": "*.md"}}),
        ("name ~= [ab]?=*", {"name": {"$glob": "[ab]?=*"}}),
        ('name~="*.md"', {"name": {"$glob": "*.md"}}),
        ("name~=~x", {"name": {"$glob": "~x"}}),
        ("name~=2024", {"name": {"$glob": "2024"}}),
        ("date>=2024-01-05", {"date": {"$gte": {"$date": "2024-01-05"}}}),
        ("date < 2024-01-05T10:00:00.5+02:00", {"date": {"$lt": {"$date": "2024-01-05T10:00:00.5+02:00"}}}),
        ("date=2024-01-05", {"date": {"$eq": {"$date": "2024-01-05"}}}),
        ("date!=2024-01-05 10:00", {"date": {"$ne": {"$date": "2024-01-05 10:00"}}}),
        ("date>='2024-01-05'", {"date": {"$gte": "2024-01-05"}}),
        ('date="2024-01-05"', {"date": {"$eq": "2024-01-05"}}),
        ("date^=2024-01-05", {"date": {"$prefix": "2024-01-05"}}),
        ("date*=2024-01-05", {"date": {"$contains": "2024-01-05"}}),
        ("date~=2024-01-*", {"date": {"$glob": "2024-01-*"}}),
        ("date=2024-01", {"date": {"$eq": "2024-01"}}),
        ("date=2024-02-30", {"date": {"$eq": "2024-02-30"}}),
        ("date=2024-01-05 notes", {"date": {"$eq": "2024-01-05 notes"}}),
        ("title=two words", {"title": {"$eq": "two words"}}),
    ],
)
def test_filters_on_the_command_line(text, where):
    assert parse_where(text) == where
    assert repr(parse_where(text)) == repr(where)
    compile_where(where)


@pytest.mark.parametrize(
    "text", ["", "year", "=3", "{year: 3}", '{"a": 1', "<5", "{" * 5000, "a=>3", "a<>3", "a=~b", "a===b"]
)
def test_what_is_no_filter_on_the_command_line(text):
    with pytest.raises(FilterError) as caught:
        parse_where(text)
    assert "\n" not in str(caught.value)
