"""The example programs run as their README says and print what they promise."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from patience import PATIENCE

ROOT = Path(__file__).parents[2]
README = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\| `python (examples/\w+\.py[^`]*)`", README, re.MULTILINE)

PROMISED = {
    "search_folder": r"\d+ documents, \d+ passages\n0\.\d+  \w+\.md, line \d+: ",
    "images_by_words": r"a red circle: red-circle-47\.png\na blue square: blue-square-47\.png\n",
    "train_words": r"\d+ words\n(\w+: \w+, \w+, \w+, \w+\n){5}",
    "fine_tune": r"right before: \d+%, after: 100%",
    "sounds": r"4 sounds by \w+; 1 with a remark\nmost like a quiet beep: beep\.wav; heard: (Beep|not named)",
    "voice": r"anna is anna: score 0\.\d+; .*\nben is not anna: .*\n( .* s: anna\n .* s: ben\n){2}",
    "few_shot": r"9 examples: .*\ndecides by the nearest class mean\naccuracy \d+\.\d % (.*\n)+?cooking: Whisk"
    r".*\n\w+: The club.*\nsport: The goal.*\nlabel next: The club",
    "classify": r"cooking \(\d+%\): Simmer.*\nmoney \(\d+%\): The central.*\nsport \(\d+%\): She",
}


def run(command: str) -> str:
    """Runs an example from the project's folder; what it prints."""
    words = [
        path
        for word in shlex.split(command)
        for path in (sorted(map(str, ROOT.glob(word))) if "*" in word else [word])
    ]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def script(command: str) -> str:
    """The name of the example that a command runs, without its suffix."""
    [name] = re.findall(r"examples/(\w+)\.py", command)
    return str(name)


def test_every_example_is_listed() -> None:
    there = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert {f"{script(command)}.py" for command in COMMANDS} == there
    assert {Path(name).stem for name in there} == set(PROMISED)


@pytest.mark.parametrize("command", COMMANDS, ids=script)
def test_an_example_prints_what_it_promises(command: str, minilm: Path, lite0: Path) -> None:
    name = script(command)
    assert re.match(PROMISED[name], run(command)), name
