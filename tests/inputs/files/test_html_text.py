from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnivec.inputs.files.html import extract


def text(source: str) -> str:
    return extract(source)[0]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a <b>bold</b>er <i>x</i>", "a bolder x"),
        ("<p>one<p>two</p>three", "one\n\ntwo\n\nthree"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<h1> Head\n  line </h1>text", "Head line\n\ntext"),
        ("<ul><li>one<li>two<ul><li>deep</ul></ul>end", "- one\n- two\n\n- deep\n\nend"),
        ("<table><tr><th>a<th>b</tr><tr><td>1</td><td> 2 </td></tr></table>", "a | b\n1 | 2"),
        ("<dl><dt>term<dd>meaning</dl>", "term\nmeaning"),
        ("<pre>\n  a\n    b\n\n\n\nc  d\n</pre>e", "  a\n    b\n\nc  d\n\ne"),
        ("<pre>x <b>y</b> z</pre>", "x y z"),
        ("<title>T &amp; t</title><body>b", "T & t\n\nb"),
        ("&lt;p&gt; &#65;&#x42; &eacute;&nbsp;&copy", "<p> AB é\xa0©"),
        ("a < b > c << d <3 e", "a < b > c << d <3 e"),
        ("1<script>if (a<b) '</p>'</script>2<style>p{}</style>3", "123"),
        ("1<SCRIPT>x</script >2", "12"),
        ("1<noscript>x<p>y</noscript>2<template>x<template>y</template>z</template>3", "123"),
        ("1<!-- <p>x --> -->2<!-->3<!--->4<!---x--!>5", "1 -->2345"),
        ("<!DOCTYPE html><?xml version='1'?>a</>b</ x>c", "abc"),
        ('<a title="x>y" href=it\'s>link</a> <img alt=">">.', "link ."),
        ("<p title='unclosed>all is gone", ""),
        ("<script>never closed", ""),
        ("<textarea> <b>kept</b> </textarea>", "<b>kept</b>"),
        ("<script src='x'/>after", "after"),
        ("</li>a</p></table>b", "a\n\nb"),
        ("", ""),
        ("no markup\n at all", "no markup at all"),
    ],
)
def test_a_page_reads_as_it_looks(source: str, expected: str) -> None:
    assert text(source) == expected


def test_every_word_knows_its_line() -> None:
    dice = random.Random(0)
    tags = ["p", "div", "b", "li", "td", "tr", "pre", "a href='\n>'", "br", "h2", "span\n class=x"]
    source, words = "", []
    for n in range(3000):
        words.append(f"w{n}w")
        kind = dice.random()
        if kind < 0.1:
            source += f"<!--\n no{n} \n-->"
        elif kind < 0.2:
            source += f"<script>\nno{n}\n</script\n>"
        elif kind < 0.3:
            source += f"<title>t{n}t\n</title>"
        tag = dice.choice(tags)
        gap = dice.choice(["", " ", "\n", "  \n\n "])
        source += f"<{tag}>{gap}{words[-1]} &amp;\n</{tag.split()[0]}>"
    found, lines = extract(source)
    assert [word for word in found.split() if word.startswith("w")] == words
    wrong = [w for w in words if lines.at(found.index(w)) != source.count("\n", 0, source.index(w)) + 1]
    assert wrong == []


FRAGMENTS = [*"<>/!-?&;#x1=\"' \n\tapretld", "<pre>", "</p>", "<!--", "<script", "<template>", "&#", "é"]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=80).map("".join))
def test_no_markup_is_too_broken(source: str) -> None:
    found, lines = extract(source)
    assert all(1 <= lines.at(n) <= source.count("\n") + 1 for n in range(len(found)))
    assert list(lines.starts) == sorted(lines.starts)
    assert all(a <= b for a, b in zip(lines.numbers[1:], lines.numbers[2:], strict=False))


@given(st.text(alphabet="abc \n.,", max_size=80))
def test_text_without_markup_only_loses_its_blanks(source: str) -> None:
    assert text(source) == " ".join(source.split())


@pytest.mark.parametrize(
    "part",
    ["<", "<!--", "<!", "<a ", "<a b='", '<a b="', "<a =", "</", "</a", "<div>", "<b><i>", "<pre>", "<template>",
     "<title>", "<script>", "</script", "&", "&#", "&#9", "&lt", "<td>x", "\n", "<p>\n", "<![CDATA[", "-->"],
)  # fmt: skip
def test_a_megabyte_made_to_hurt_takes_about_a_second(part: str) -> None:
    source = part * (1_000_000 // len(part))
    start = time.process_time()
    extract(source)
    assert time.process_time() - start < 60  # quadratic time would take hours


def test_a_character_number_too_long_for_an_int_is_left_as_it_is() -> None:
    source = "&#" + "9" * 5000 + ";"
    assert text(source) == source
