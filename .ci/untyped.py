"""Checks the list of modules whose errors mypy does not report, in pyproject.toml: each of them must still have some.

A module that passes has to leave the list, so that it stays checked. Run after mypy, whose cache it uses: only the
listed modules are checked again.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def listed(pyproject: str) -> list[str]:
    """The modules of the override with `ignore_errors`."""
    overrides = tomllib.loads(pyproject)["tool"]["mypy"]["overrides"]
    return [module for o in overrides if o.get("ignore_errors") for module in o["module"]]


def source(module: str, root: Path = ROOT) -> Path | None:
    """The file of a module, below the root; None if there is none."""
    below = Path(*module.split(".")).with_suffix(".py")
    files = (base / below for base in map(Path, ("tests/helpers", "benchmarks", ".")))
    return next((file for file in files if (root / file).is_file()), None)


def files_with_errors(pyproject: str) -> set[Path]:
    """The files, below the repository, that mypy has errors for when it ignores none."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "mypy.toml")
        config.write_text(
            pyproject.replace("\nignore_errors = true\n", "\nignore_errors = false\n"), encoding="utf-8"
        )
        command = [sys.executable, "-m", "mypy", "--config-file", str(config), "--no-pretty"]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode not in (0, 1):
        sys.exit(f"mypy failed:\n{run.stdout}{run.stderr}")
    return {Path(file) for file in re.findall(r"^(.+?):\d+: error:", run.stdout, re.MULTILINE)}


def wrong_entries(pyproject: str, failing: set[Path], root: Path = ROOT) -> list[str]:
    """What is wrong with the list, a line each.

    Args:
        pyproject: the text of pyproject.toml.
        failing: the files with errors.
        root: the folder that files are below.
    """
    modules = listed(pyproject)
    gone = [f"{m}: no such file" for m in modules if source(m, root) is None]
    passing = [m for m in modules if source(m, root) not in {None, *failing}]
    return gone + [f"{m}: passes; take it off the list" for m in passing]


def main() -> None:
    """Exits with 1, and says why, if a listed module passes or has no file."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    if wrong := wrong_entries(pyproject, files_with_errors(pyproject)):
        sys.exit("modules with ignore_errors in pyproject.toml:\n" + "\n".join(wrong))
    print(f"{len(listed(pyproject))} modules are not checked yet; all of them have errors")


if __name__ == "__main__":
    main()
