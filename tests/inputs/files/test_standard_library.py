from __future__ import annotations

import ast
import inspect
import itertools
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from omnivec.inputs.files.pydoc import Docstring, standard_library


@pytest.fixture(scope="module")
def records() -> list[Docstring]:
    return list(standard_library())


def test_a_method_is_one_record_with_its_signature_and_place(records: list[Docstring]) -> None:
    (record,) = [record for record in records if record.id == "zipfile.ZipFile.extract"]
    method = zipfile.ZipFile.extract
    head, _, body = record.text.partition("\n\n")
    assert head == "zipfile.ZipFile.extract(self, member, path=None, pwd=None)"
    assert body == inspect.getdoc(method)
    assert record.path == Path(inspect.getfile(zipfile))
    assert record.line == method.__code__.co_firstlineno
    assert record.metadata == {
        "module": "zipfile",
        "kind": "function",
        "public": True,
        "path": Path(inspect.getfile(zipfile)).relative_to(Path(inspect.getfile(ast)).parent).as_posix(),
    }


def test_ids_are_unique_and_there_are_thousands(records: list[Docstring]) -> None:
    assert len({record.id for record in records}) == len(records)
    assert 5_000 < len(records) < 12_000
    assert {record.metadata["kind"] for record in records} == {"module", "class", "function"}
    assert all(len(record.text.partition("\n\n")[2]) > 20 and record.line >= 1 for record in records)


def test_it_is_the_same_every_time(records: list[Docstring]) -> None:
    assert [record.id for record in itertools.islice(standard_library(), 200)] == [
        r.id for r in records[:200]
    ]


def test_tests_and_installed_packages_are_left_out(records: list[Docstring]) -> None:
    parts = {part for record in records for part in Path(record.metadata["path"]).parts[:-1]}
    assert not parts & {"test", "tests", "idle_test", "site-packages", "lib2to3", "turtledemo", "pydoc_data"}
    assert "asyncio" in parts


def test_nothing_is_imported() -> None:
    before = set(sys.modules)
    assert sum(1 for _ in itertools.islice(standard_library(), 50)) == 50
    assert not {
        name for name in set(sys.modules) - before if name.startswith(("antigravity", "asyncio", "idlelib"))
    }


def test_names_kinds_and_what_is_too_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Says something that is long enough to be kept."
    (tmp_path / "pack").mkdir()
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "no.py").write_text(f'"""{said}"""')
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "nul.py").write_bytes(b"x = '\x00'")
    (tmp_path / "pack" / "__init__.py").write_text(f'''"""{said}"""
import sys
class Thing(dict):
    """{said}

        Indented.
    """
    def __init__(self, a, *, b: int = 1) -> None:
        """{said}"""
    @property
    def value(self):
        """{said}"""
    @value.setter
    def value(self, to):
        """{said} \\d"""
    async def _hidden(self, *args, **kwargs):
        """{said}"""
        def inner():
            """{said}"""
    def short(self):
        """Too short."""
if sys.platform == "x":
    def only():
        """{said}"""
''')
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    found = list(standard_library())
    assert [(r.id, r.line, r.metadata["kind"], r.metadata["public"]) for r in found] == [
        ("pack", 1, "module", True),
        ("pack.Thing", 3, "class", True),
        ("pack.Thing.__init__", 8, "function", True),
        ("pack.Thing.value", 11, "function", True),
        ("pack.Thing.value:2", 14, "function", True),
        ("pack.Thing._hidden", 16, "function", False),
        ("pack.only", 23, "function", True),
    ]
    assert found[0].text == f"pack\n\n{said}"
    assert found[1].text == f"pack.Thing(self, a, *, b: int=1)\n\n{said}\n\nIndented."
    assert found[5].text.startswith("pack.Thing._hidden(self, *args, **kwargs)\n\n")
