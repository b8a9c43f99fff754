from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from omnivec.inputs.files.ignore import Ignore
from omnivec.inputs.files.walk import walk
from omnivec.inputs.files.wildcards import Wildcards

MOST = 30.0
"""CPU seconds: a hundred times what linear time takes here, and far less than an engine that backtracks."""


def write(top: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text, encoding="utf-8")


def listed(root: Path) -> set[str]:
    return {entry.path.relative_to(root).as_posix() for entry in walk(root)}


def git(top: Path, *words: str) -> str:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "HOME": str(top)}
    done = subprocess.run(
        ["git", "-C", str(top), *words], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout


def untracked(top: Path) -> set[str]:
    out = git(top, "ls-files", "-o", "--exclude-standard", "-z")
    return {path for path in out.split("\0") if path and not path.endswith(".gitignore")}


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@needs_git
def test_a_repository_is_read_as_git_reads_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    write(
        tmp_path,
        {
            ".gitignore": "# made\n*.log.txt\n/build/\n!keep.log.txt\ndocs/**\n!docs/api/\ntemp?\n"
            "\\#odd.txt\nend.txt \r\n",
            "a/.gitignore": "\ufeff*.md\n!/readme.md\n!vendor/\n",
            "x.log.txt": "", "keep.log.txt": "", "#odd.txt": "", "end.txt": "", "build/a.txt": "", "b/build/a.txt": "",
            "docs/a.txt": "", "docs/api/b.txt": "", "temp1/a.txt": "", "temp/a.txt": "",
            "a/b.md": "", "a/readme.md": "", "a/c/readme.md": "", "a/vendor/x.log.txt": "", "a/vendor/d.txt": "",
        },
    )  # fmt: skip
    found = listed(tmp_path)
    assert found == untracked(tmp_path)
    assert {"keep.log.txt", "b/build/a.txt", "a/readme.md", "temp/a.txt", "a/vendor/d.txt"} <= found
    assert not found & {"build/a.txt", "docs/a.txt", "#odd.txt", "end.txt", "a/vendor/x.log.txt", "a/b.md"}


@needs_git
@pytest.mark.parametrize("seed", range(25))
def test_random_rules_mean_what_they_mean_to_git(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    names = ["a", "b", "docs", "x.txt", "*.txt", "*", "?", "[ab]", "[!b]", "d*", "**", "foo.*"]

    def pattern() -> str:
        body = "/".join(dice.choice(names) for _ in range(dice.randint(1, 3)))
        begin = dice.choice(["", "", "!", "/", "!/"])
        return begin + body + dice.choice(["", "", "/", "/**"])

    git(tmp_path, "init", "-q")
    folders = [tmp_path]
    for _ in range(6):
        folders.append(dice.choice(folders) / dice.choice(["a", "b", "docs"]))
        folders[-1].mkdir(exist_ok=True)
    for folder in folders:
        for name in ("x.txt", "foo.py", "a.txt"):
            (folder / name).write_text("x")
    for folder in dice.sample(folders, 2):
        (folder / ".gitignore").write_text("\n".join(pattern() for _ in range(dice.randint(1, 4))) + "\n")
    assert listed(tmp_path) == untracked(tmp_path)


@needs_git
def test_rules_of_folders_above_hold_up_to_the_top_of_the_repository(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "*.md\n", "repo/.gitignore": "*.txt\n/sub/deep/no.py\n"})
    write(
        tmp_path / "repo" / "sub", {"a.txt": "", "b.md": "", "c.py": "", "deep/no.py": "", "deep/yes.py": ""}
    )
    git(tmp_path / "repo", "init", "-q")
    sub = tmp_path / "repo" / "sub"
    assert listed(sub) == {"b.md", "c.py", "deep/yes.py"} == untracked(sub)


def test_a_repository_inside_another_has_its_own_rules(tmp_path: Path) -> None:
    write(
        tmp_path, {".git/HEAD": "", ".gitignore": "*.txt\n", "in/.git/HEAD": "", "in/a.txt": "", "b.txt": ""}
    )
    assert listed(tmp_path) == {"in/a.txt"}
    assert listed(tmp_path / "in") == {"a.txt"}


def test_our_own_rules_win_over_gits(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            ".gitignore": "*.md\nbuild/\n*.log.txt\n",
            ".omnivecignore": "!good.md\nsecret*\n!build/\n",
            "good.md": "", "bad.md": "", "secret.txt": "", "build/a.txt": "", "build/b.log.txt": "", "c.txt": "",
            "in/.gitignore": "!secret.py\n", "in/secret.py": "",
        },
    )  # fmt: skip
    assert listed(tmp_path) == {"good.md", "build/a.txt", "c.txt"}


def test_an_ignored_folder_that_is_named_is_taken(tmp_path: Path) -> None:
    write(tmp_path, {".git/HEAD": "", ".gitignore": "build/\n", "build/docs/a.txt": "", "b.txt": ""})
    assert listed(tmp_path) == {"b.txt"}
    assert listed(tmp_path / "build") == {"docs/a.txt"}
    assert listed(tmp_path / "build" / "docs") == {"a.txt"}


@pytest.mark.parametrize(
    "line", ["!", "/", "//", "\\", "[", "[z-a]", "***", "!/", "a\\", "\x00", "[[:alpha:]"]
)
def test_lines_that_nobody_can_read_are_passed_over(tmp_path: Path, line: str) -> None:
    write(tmp_path, {".gitignore": f"{line}\nb.txt\n", "a.txt": "", "b.txt": ""})
    assert "b.txt" not in listed(tmp_path)


ATOMS = [
    "a",
    "b",
    "*",
    "**",
    "?",
    "/",
    "**/",
    "/**",
    "[a-c]",
    "[!a]",
    "[^b]",
    "[[:alpha:]]",
    "[]a]",
    "[a-]",
    "\\a",
    "\\",
]
ATOMS += [
    ".",
    "é",
    "[é]",
    " ",
    "\\ ",
    "!",
    "#",
    "[",
    "]",
    "[[:digit:]b]",
    "[a\\]b]",
    "[[:foo:]]",
    "[c-a]",
    "[a-b-c]",
    "[[:]",
]
NAMES = [
    "a",
    "b",
    "ab",
    "abc",
    "é",
    "a b",
    "a]",
    "-",
    "*a",
    "[",
    "\\",
    "!a",
    "#a",
    "a-",
    " a",
    "a ",
    "a\r",
    "[a",
    "[:",
]


@needs_git
@pytest.mark.parametrize("seed", range(12))
def test_every_character_of_a_pattern_means_what_it_means_to_git(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    git(tmp_path, "init", "-q")
    lines = ["".join(dice.choices(ATOMS, k=dice.randint(1, 6))) for _ in range(3)]
    (tmp_path / ".gitignore").write_bytes("\n".join(lines).encode())
    paths = sorted({"/".join(dice.choices(NAMES, k=dice.randint(1, 4))) for _ in range(40)})
    command = ["git", "-C", str(tmp_path), "check-ignore", "-z", "--stdin", "-v", "-n", "--no-index"]
    done = subprocess.run(command, input="\0".join(paths).encode(), capture_output=True, check=False)
    fields = done.stdout.decode().split("\0")
    expected = {
        path: bool(rule) and not rule.startswith("!")
        for rule, path in zip(fields[2::4], fields[3::4], strict=False)
    }
    rules = Ignore().inside(tmp_path)
    for path in paths:
        way = [tmp_path.joinpath(*path.split("/")[:n]) for n in range(1, path.count("/") + 2)]
        found = any(rules.ignores(each, folder=each != way[-1]) for each in way)
        assert found == expected[path], (lines, path)


SLOW_ELSEWHERE = [
    b"*a*a*a*a*a*a*a*ab",
    b"*a" * 100 + b"b",
    b"**/" * 1000 + b"b",
    b"**/*a/" * 300 + b"b",
    b"*?" * 120 + b"b",
    b"*[a-z]" * 60 + b"b",
    b"*[!b]" * 60 + b"b",
    b"a" * 100_000,
    b"[" + b"a-z" * 10_000,
]


@pytest.mark.parametrize("pattern", SLOW_ELSEWHERE, ids=[p[:20].decode() for p in SLOW_ELSEWHERE])
@pytest.mark.parametrize("paths", [False, True])
def test_no_pattern_takes_more_than_time_in_proportion(pattern: bytes, paths: bool) -> None:
    begun = time.process_time()
    assert not Wildcards(pattern, paths).matches(b"a" * 200)
    assert not Wildcards(pattern, paths).matches(b"a/" * 200)
    assert time.process_time() - begun < MOST


def test_a_folder_with_such_a_rule_is_walked(tmp_path: Path) -> None:
    write(
        tmp_path, {".gitignore": "*a*a*a*a*a*a*a*ab\n", "a" * 200 + ".txt": "", "aaaaaaaab": "", "b.txt": ""}
    )
    begun = time.process_time()
    assert listed(tmp_path) == {"a" * 200 + ".txt", "b.txt"}
    assert time.process_time() - begun < MOST


def test_a_hundred_thousand_rules_cost_a_look_up_each_time(tmp_path: Path) -> None:
    lines = (
        [f"file{i}.txt" for i in range(50_000)]
        + [f"/x/file{i}.txt" for i in range(50_000)]
        + ["!file7.txt", "x/"]
    )
    write(tmp_path, {".gitignore": "\n".join(lines), "file8.txt": "", "file7.txt": "", "other.txt": ""})
    rules = Ignore().inside(tmp_path)
    begun = time.process_time()
    for _ in range(1000):
        assert rules.ignores(tmp_path / "file8.txt", folder=False)
        assert not rules.ignores(tmp_path / "x", folder=False)
    assert time.process_time() - begun < MOST
    assert listed(tmp_path) == {"file7.txt", "other.txt"} and rules.ignores(tmp_path / "x", folder=True)
