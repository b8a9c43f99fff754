from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnivec.errors import ItemError, UsageError
from omnivec.inputs.files import read as module
from omnivec.inputs.files.lines import LineStarts
from omnivec.inputs.files.read import MAX_LINE, MAX_RUN, FileText, read


def file(folder: Path, data: bytes | str, name: str = "a.txt") -> Path:
    path = folder / name
    path.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
    return path


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(ItemError) as caught:
        read(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.txt", "plain"), ("a.MD", "markdown"), ("a.py", "code"), ("Makefile", "code"), ("a.yaml", "data"),
     ("a.rst", "rst"), ("a.unknown", "plain"), ("README", "plain"), ("CMakeLists.txt", "code")],
)  # fmt: skip
def test_a_text_comes_with_its_kind_and_the_digest_of_its_bytes(tmp_path: Path, name: str, kind: str) -> None:
    data = "---\ntitle: x\n---\nGrüße, 世界\n".encode()
    found = read(file(tmp_path, data, name))
    assert (found.text, found.kind) == (data.decode(), kind)
    assert found.digest == hashlib.sha256(data).hexdigest()


def test_every_kind_of_line_end_counts_as_one_line(tmp_path: Path) -> None:
    found = read(file(tmp_path, b"one\r\ntwo\rthree\n\r\nfive\n\r\rend"))
    assert found.text == "one\ntwo\nthree\n\nfive\n\n\nend"
    words = ["one", "two", "three", "five", "end"]
    assert [found.line(found.text.index(word)) for word in words] == [1, 2, 3, 5, 8]


@given(st.text(alphabet="ab\n", max_size=60))
def test_the_line_of_an_offset_is_one_more_than_the_line_ends_before_it(text: str) -> None:
    lines = LineStarts.of(text)
    assert [lines.at(n) for n in range(len(text) + 1)] == [
        text.count("\n", 0, n) + 1 for n in range(len(text) + 1)
    ]


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_byte_order_mark_decides_and_is_no_text(tmp_path: Path, mark: bytes, encoding: str) -> None:
    path = file(tmp_path, mark + "Grüße\n世界".encode(encoding))
    assert read(path).text == read(path, encoding="cp1252").text == "Grüße\n世界"


def test_the_encoding_given_is_used(tmp_path: Path) -> None:
    assert read(file(tmp_path, b"caf\xe9 \x80"), encoding="cp1252").text == "café €"
    assert read(file(tmp_path, "a\nb".encode("utf-16-le")), encoding="utf-16-le").text == "a\nb"
    with pytest.raises(UsageError, match="klingon"):
        read(file(tmp_path, b"x"), encoding="klingon")
    with pytest.raises(UsageError, match="hex"):
        read(file(tmp_path, b"61"), encoding="hex")


def test_valid_utf8_is_read_as_such_whatever_is_given(tmp_path: Path) -> None:
    for text in ("Grüße, 世界", "naïve café", "plain"):
        found = read(file(tmp_path, text), encoding=["cp1252", "shift_jis"])
        assert (found.text, found.encoding, found.given) == (text, "utf-8", False)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "iso2022_jp", "utf-7", "hz"])
def test_text_that_is_valid_utf8_by_chance_is_read_as_given(tmp_path: Path, encoding: str) -> None:
    text = "你好 ab\n" if encoding == "hz" else "abc\n日本語" if encoding == "iso2022_jp" else "Größe 1\n"
    found = read(file(tmp_path, text.encode(encoding)), encoding=["cp1252", encoding])
    assert (found.text, found.encoding, found.given) == (text, encoding, True)
    plain = read(file(tmp_path, "only ASCII ~{ + -\n"), encoding=encoding)
    assert (plain.text, plain.encoding) == ("only ASCII ~{ + -\n", "utf-8")


@pytest.mark.parametrize("wide", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("size", range(8))
def test_a_text_of_one_byte_a_character_is_never_read_as_one_of_two(
    tmp_path: Path, wide: str, size: int
) -> None:
    path = file(tmp_path, "Une idée générale, à côté d’un café.\n".encode("cp1252") + b"x" * size)
    assert re.search(f"is not {wide}.*zero byte.*--encoding", refusal(path, encoding=wide))
    for encodings in ([wide, "cp1252"], ["cp1252", wide]):
        assert read(path, encoding=encodings).encoding == "cp1252"


@pytest.mark.parametrize(
    "text", ["Größe 1\nund 2", "一丁\u3000一\u3000\u3000一\n日本 語\n", "\u3000\u3000一一\r\n"]
)
@pytest.mark.parametrize(("order", "other"), [("le", "be"), ("be", "le")])
@pytest.mark.parametrize("wide", ["utf-16", "utf-32"])
def test_the_order_of_bytes_is_told_by_the_blanks(
    tmp_path: Path, wide: str, order: str, other: str, text: str
) -> None:
    path = file(tmp_path, text.encode(f"{wide}-{order}"))
    assert read(path, encoding=wide).text == text.replace("\r", "")
    assert read(path, encoding=[f"{wide}-{other}", f"{wide}-{order}"]).encoding == f"{wide}-{order}"
    refusal(path, encoding=f"{wide}-{other}")


def test_of_several_encodings_the_first_that_can_read_the_file_is_used(tmp_path: Path) -> None:
    japanese = file(tmp_path, "日本".encode("shift_jis"))  # 93 FA 96 7B
    assert read(japanese, encoding=["shift_jis", "cp1252"]).text == "日本"
    polish = file(tmp_path, "zażółć".encode("iso8859-2"))
    assert read(polish, encoding=["shift_jis", "iso8859-2"]).encoding == "iso8859-2"
    assert "is not iso2022_kr" in refusal(polish, encoding=["ascii", "iso2022_kr"])
    with pytest.raises(UsageError, match="klingon"):
        read(file(tmp_path, "fine"), encoding=["cp1252", "klingon"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", '<meta charset="koi8-r"><p>Привет'),
        ("a.xml", '<?xml version="1.0" encoding="koi8-r"?><p>Привет</p>'),
        ("a.py", "# -*- coding: koi8-r -*-\nx = 'Привет'"),
        ("a.rb", "#!/usr/bin/ruby\n# vim: set fileencoding=koi8-r :\nx = 'Привет'"),
    ],
)
def test_what_a_file_says_of_itself_stands_above_what_is_given(
    tmp_path: Path, name: str, content: str
) -> None:
    found = read(file(tmp_path, content.encode("koi8-r"), name), encoding="cp1252")
    assert "Привет" in found.text and (found.encoding, found.given) == ("koi8-r", False)
    misdeclared = read(file(tmp_path, content, name))
    assert "Привет" in misdeclared.text and misdeclared.encoding == "utf-8"


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<meta charset="koi8-r">', "koi8-r"),
        ("<META CONTENT='text/html; charset=shift_jis' HTTP-EQUIV=x>", "shift_jis"),
        ("<meta charset=iso-8859-1>", "cp1252"),
        ("<meta charset=utf-16>", "utf-8"),
        ("<meta charset=nonsense>", "utf-8"),
        ("", "utf-8"),
    ],
)
def test_a_page_declares_its_encoding(tmp_path: Path, head: str, encoding: str) -> None:
    word = {"koi8-r": "Привет", "shift_jis": "こんにちは", "cp1252": "“naïve”"}.get(encoding, "žluťoučký")
    path = file(tmp_path, f"<html>{head}<p>{word}".encode(encoding), "a.html")
    found = read(path)
    assert (found.text, found.encoding, found.kind) == (word, encoding, "html")


def test_lines_of_a_page_are_those_of_its_source(tmp_path: Path) -> None:
    found = read(file(tmp_path, "<html>\r\n<script>\r\n\r\n</script>\r\n<p>five\r\nsix<p>\r\nseven", "a.htm"))
    assert found.text == "five six\n\nseven"
    assert [found.line(found.text.index(word)) for word in ("five", "six", "seven")] == [5, 6, 7]


def test_nothing_to_embed_is_refused(tmp_path: Path) -> None:
    assert "0 bytes" in refusal(file(tmp_path, b""))
    assert "5 bytes" in refusal(file(tmp_path, " \n\t\r\n"))
    assert "3 bytes" in refusal(file(tmp_path, codecs.BOM_UTF8))
    assert "25 bytes" in refusal(file(tmp_path, "<script>no text</script>\n", "a.html"))


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(tmp_path, b"x y " * 300)
    assert read(path, max_bytes=1200).text == "x y " * 300
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened"))
    message = refusal(path, max_bytes=1199)
    assert "1,200" in message and "1,199" in message


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_refuse_other", lambda status, limit: None)
    assert "grew over the limit of 10 bytes" in refusal(file(tmp_path, b"eleven byte"), max_bytes=10)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
def test_binary_content_is_refused_by_that_name(tmp_path: Path, name: str) -> None:
    png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256))
    for data in (
        png,
        b"text\x00text",
        b"\x7fELF\x01\x02\x03 some text",
        b"bell \x07 rings",
        bytes(range(1, 256)),
    ):
        assert "binary" in refusal(file(tmp_path, data, name))
    assert "utf-16-le" in refusal(file(tmp_path, "no mark".encode("utf-16-le")))


def test_a_stray_control_character_or_colours_of_a_log_are_text(tmp_path: Path) -> None:
    text = "\x1b[31mred\x1b[0m \f" + "word " * 100 + "\x07"
    assert read(file(tmp_path, text)).text == text


def test_broken_utf8_is_refused_with_the_offset_and_the_way_out(tmp_path: Path) -> None:
    message = refusal(file(tmp_path, b"good caf\xe9 latin"))
    assert "0xe9" in message and "offset 8" in message and "--encoding" in message


def test_a_line_without_end_is_refused_with_its_number(tmp_path: Path) -> None:
    assert read(file(tmp_path, "a\n" + "word " * (MAX_LINE // 5) + "\nb"))
    message = refusal(file(tmp_path, "first\nsecond\n" + "word " * (MAX_LINE // 5) + "x\nlast"))
    assert "line 3" in message and f"{MAX_LINE + 1:,}" in message and f"{MAX_LINE:,}" in message


@pytest.mark.parametrize("lead", [0, 1, 9_999, 10_000, 15_000, 19_999, 123_456])
def test_a_run_without_a_break_is_refused_wherever_it_begins(tmp_path: Path, lead: int) -> None:
    before = "ab " * (lead // 3) + " " * (lead % 3) + "\n"
    assert read(file(tmp_path, before + "x" * MAX_RUN + " end")).text.endswith("x end")
    message = refusal(file(tmp_path, before + "x" * (MAX_RUN + 1) + " end"))
    assert "line 2" in message and f"{MAX_RUN + 1:,}" in message
    assert "line 2" in refusal(file(tmp_path, before + "x" * (3 * MAX_RUN)))


@pytest.mark.parametrize(
    "script", ["今天天气很好", "ひらがなカタカナ", "ภาษาไทย", "ພາສາລາວ", "ភាសាខ្មែរ", "한국어", "𠀀𠀁"]
)
def test_scripts_without_blanks_can_break_anywhere(tmp_path: Path, script: str) -> None:
    text = script * (MAX_RUN // len(script) + 2)
    assert read(file(tmp_path, text)).text == text


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "gone.txt")
    assert "folder" in refusal(tmp_path)
    assert "cannot be read" in refusal(tmp_path / ("long" * 100))
    link = tmp_path / "link.txt"
    link.symlink_to("link.txt")
    assert "cannot be read" in refusal(link)


def test_a_fifo_is_never_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pipe.txt"
    os.mkfifo(path)
    assert "not a regular file" in refusal(path)
    # Even one that takes a file's place after the first look.
    looks = [lambda *_: None, module._refuse_other]
    monkeypatch.setattr(module, "_refuse_other", lambda *given: looks.pop(0)(*given))
    assert "not a regular file" in refusal(path)
    assert looks == []


def test_permission_denied_is_one_line(tmp_path: Path, run_bound: Callable[[str], str]) -> None:
    file(tmp_path, b"secret").chmod(0)
    out = run_bound("""
import json
from omnivec.inputs.files.read import read
from omnivec.errors import ItemError
try:
    print(json.dumps(read(Path("a.txt")).text))
except ItemError as exc:
    print(json.dumps(str(exc)))
""")
    assert json.loads(out).startswith("a.txt: permission denied")


def test_a_name_that_cannot_be_printed_still_makes_one_line(tmp_path: Path) -> None:
    path = file(tmp_path, b"", "two\nlines.txt")
    with pytest.raises(ItemError) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_text_is_frozen(tmp_path: Path) -> None:
    found = read(file(tmp_path, b"x"))
    assert isinstance(found, FileText)
    with pytest.raises(AttributeError):
        found.text = "y"  # type: ignore[misc]
