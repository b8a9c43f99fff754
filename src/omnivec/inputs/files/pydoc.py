"""The docstrings of Python's standard library, read from its source files without importing them."""

from __future__ import annotations

import ast
import inspect
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SHORTEST = 40
_SKIPPED = "test tests idle_test lib2to3 site-packages dist-packages __pycache__ turtledemo pydoc_data"

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_Documented = ast.Module | _Definition


@dataclass(frozen=True)
class Docstring:
    """One docstring.

    Attributes:
        id: full name of the definition; a second definition of the name has ":2" appended, and so on.
        text: name and signature, a blank line, and the docstring without its indentation.
        path: path of the source file.
        line: line of the `def` or `class` in that file, from 1; 1 for a module.
        metadata: "module"; "kind" ("module", "class" or "function"); "public", whether no part of the name begins with
            an underscore, except names like `__init__`; "path", relative to the library's folder.
    """

    id: str
    text: str
    path: Path
    line: int
    metadata: Mapping[str, Any]


def standard_library() -> Iterator[Docstring]:
    """Yields the docstrings of at least 40 characters in the running Python's standard library, by path and line.

    Tests, caches, installed packages and files that cannot be parsed are left out. Modules in C have no Python source.
    """
    top = Path(sysconfig.get_paths()["stdlib"])
    times: Counter[str] = Counter()
    for path in _sources(top):
        tree = _parse(path)
        if tree is None:
            continue
        inside = path.relative_to(top)
        module = ".".join(inside.with_suffix("").parts).removesuffix(".__init__")
        for name, node in _documented(tree, module):
            text = _text(name, node)
            if text is None:
                continue
            times[name] += 1
            yield Docstring(
                id=name if times[name] == 1 else f"{name}:{times[name]}",
                text=text,
                path=path,
                line=getattr(node, "lineno", 1),
                metadata={
                    "module": module,
                    "kind": _kind(node),
                    "public": _is_public(name),
                    "path": inside.as_posix(),
                },
            )


def _sources(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name not in _SKIPPED.split():
                yield from _sources(path)
        elif path.suffix == ".py":
            yield path


def _parse(path: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in strings
            return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return None


def _documented(node: ast.AST, name: str) -> Iterator[tuple[str, _Documented]]:
    """Yields a module or class and its definitions at any depth, except those inside functions."""
    if isinstance(node, _Documented):
        yield name, node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.expr):
        return
    for child in ast.iter_child_nodes(node):
        inner = f"{name}.{child.name}" if isinstance(child, _Definition) else name
        yield from _documented(child, inner)


def _text(name: str, node: _Documented) -> str | None:
    docstring = (ast.get_docstring(node, clean=False) or "").strip()
    if len(docstring) < _SHORTEST:
        return None
    return f"{name}{_signature(node)}\n\n{inspect.cleandoc(docstring)}"


def _signature(node: _Documented) -> str:
    """Returns the parameters of a function, or those of the `__init__` of a class; "" if it has none."""
    if isinstance(node, ast.ClassDef):
        made = (part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__")
        init = next(made, None)
        return "" if init is None else _signature(init)
    return "" if isinstance(node, ast.Module) else f"({ast.unparse(node.args)})"


def _kind(node: _Documented) -> str:
    return {ast.Module: "module", ast.ClassDef: "class"}.get(type(node), "function")


def _is_public(name: str) -> bool:
    return all(
        not part.startswith("_") or (part.startswith("__") and part.endswith("__"))
        for part in name.split(".")
    )
