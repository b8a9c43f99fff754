"""The source tree as data: its modules, and all that they import, lazily and for type checkers too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "omnivec"
NAME = "omnivec"


@dataclass(frozen=True)
class Import:
    """One import: `module` names `target`, the deepest module of the tree that it means, or another's name."""

    module: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def modules(root: Path = SRC) -> dict[str, Path]:
    """Dotted name -> file, of a package's folder; the package itself is the name of its __init__.py."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = (NAME, *path.relative_to(root).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(root: Path = SRC) -> list[Import]:
    """Every import statement, at any depth, and every `import_module` and `__import__` of a literal name."""
    known = modules(root)
    return [
        Import(module, _deepest(target, known), line)
        for module, path in known.items()
        for target, line in _named(parse(path), module, path.name == "__init__.py")
    ]


def members(thing: type) -> dict[str, object]:
    """The members of a public class, with those of its bases in the package up to one that is public itself."""
    import omnivec

    public = [getattr(omnivec, name) for name in omnivec.__all__]
    own = takewhile(lambda one: one is thing or one not in public, thing.__mro__)
    bases = [one for one in own if one.__module__.startswith(f"{NAME}.")]
    return {name: value for one in reversed(bases) for name, value in vars(one).items()}


def _named(tree: ast.Module, module: str, is_package: bool) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                inside = parts[: len(parts) + is_package - node.level]
                base = ".".join([*inside, base] if base else inside)
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value, node.lineno


def _deepest(target: str, known: dict[str, Path]) -> str:
    """A name inside a module is that module's; a name of no module here keeps its own."""
    if target.partition(".")[0] != NAME:
        return target
    while target not in known and "." in target:
        target = target.rpartition(".")[0]
    return target
