"""What README and docs say is true: examples run, commands parse, names and options are all there, links lead."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

import house
import omnivec
from omnivec.cli import common
from omnivec.cli.group import COMMANDS, cli
from omnivec.cli.voice import NAME, VARIABLE
from omnivec.inputs.modality import get
from omnivec.tasks.classify import SCALE
from omnivec.tasks.duplicates import COSINE
from omnivec.tasks.voice import DEFAULT_MODEL as VOICE_MODEL
from omnivec.tasks.voice_decision import NORMALIZED
from omnivec.training.recipe_registry import recipes

DOCS = house.ROOT / "docs"
PAGES = [
    house.ROOT / "README.md",
    house.ROOT / "CHANGELOG.md",
    house.ROOT / "CONTRIBUTING.md",
    *sorted(DOCS.glob("*.md")),
]
NAMES = [page.relative_to(house.ROOT).as_posix() for page in PAGES]

README_COMMANDS = ("pip install . && omnivec demo", "pip install -e '.[dev]' && pytest")

# ```language ... ```, after <!-- skip: why --> where it is not to be run.
FENCE = re.compile(
    r"(?:<!-- skip: (?P<why>[^>]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<title>.+)$", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, its first line in the page, and why it is not run, if it is not."""

    language: str
    text: str
    line: int
    why: str | None


def blocks(page: Path) -> list[Block]:
    source = page.read_text(encoding="utf-8")
    return [
        Block(m["language"], m["text"], source.count("\n", 0, m.start("text")) + 1, m["why"])
        for m in FENCE.finditer(source)
    ]


def commands(
    group: click.Group = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its words, groups included."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL_COMMANDS = dict(commands())


def sections(page: Path) -> dict[str, str]:
    """Title of each heading -> what stands below it, up to the next."""
    parts = HEADING.split(page.read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def calls(text: str) -> Iterator[list[str]]:
    """The words of each call of omnivec in a block of shell."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
        words.whitespace_split = True
        call: list[str] = []
        for word in [*words, ";"]:
            if set(word) <= set("();<>|&"):
                if call[:1] == ["omnivec"]:
                    yield call[1:]
                call = []
            else:
                call.append(word)


def parse(words: list[str]) -> None:
    """Reads a command line as `omnivec` would, and runs nothing; click's errors for what it would refuse."""
    command: click.Command = cli
    context = click.Context(cli, info_name="omnivec")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no command {name!r}")
        command, context = found, click.Context(found, parent=context, info_name=name)
    with contextlib.suppress(click.exceptions.Exit), contextlib.redirect_stdout(io.StringIO()):
        command.make_context(context.info_name, list(words))


@pytest.fixture(scope="session")
def cache(minilm, lite0, tmp_path_factory):
    """A cache of its own that has the default models in it."""
    folder = tmp_path_factory.mktemp("cache")
    for model in (minilm, lite0):
        package, version = model.parents[1].name, model.parent.name
        place = folder / "pypi" / package / version
        place.mkdir(parents=True)
        (place / model.name).symlink_to(model, target_is_directory=True)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_examples_run(page, cache, tmp_path, monkeypatch, capsys):
    """A page's blocks run in their order, as its reader would run them, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMNIVEC_CACHE", str(cache))
    namespace: dict[str, object] = {"__name__": "__main__"}
    listed = blocks(page)
    for block, following in zip(listed, [*listed[1:], None], strict=False):
        if block.language != "python" or block.why:
            continue
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
        exec(code, namespace)
        printed = capsys.readouterr().out
        if following is not None and following.language == "text" and not following.why:
            assert printed == following.text, f"{page.name}:{following.line}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_shell_examples_parse(page):
    for block in blocks(page):
        for words in calls(block.text) if block.language == "sh" else ():
            try:
                parse(words)
            except click.UsageError as error:
                pytest.fail(
                    f"{page.name}:{block.line}: omnivec {shlex.join(words)}: {error.format_message()}"
                )


def test_the_parser_refuses_what_omnivec_would():
    assert list(calls("cd x && omnivec search 'a b' -k 3 | head\n$ omnivec models\nls")) == [
        ["search", "a b", "-k", "3"],
        ["models"],
    ]
    for wrong in (
        "serch x",
        "search",
        "search x --modes vector",
        "search x -k many",
        "collection list --check",
    ):
        with pytest.raises(click.UsageError):
            parse(shlex.split(wrong))
    parse(["collection", "status", "--check"])
    parse(["search", "--help"])


def test_the_commands_that_help_lists_are_those_there_are():
    assert list(COMMANDS) == [words[0] for words in ALL_COMMANDS if len(words) == 1]


@pytest.mark.parametrize("words", ALL_COMMANDS, ids=" ".join)
def test_every_command_is_described(words):
    """In its own help and in docs/cli.md, each option with its long name."""
    command = ALL_COMMANDS[words]
    assert command.help and command.get_short_help_str(200)
    section = sections(DOCS / "cli.md").get(f"omnivec {' '.join(words)}", "")
    assert section.strip(), f"docs/cli.md has no section 'omnivec {' '.join(words)}'"
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{words}: {option.opts} has no help"
            for flag in [*option.opts, *option.secondary_opts]:
                assert re.search(rf"(?<![\w-]){flag}(?![\w-])", section), (
                    f"{flag} is not in the section {words}"
                )


DEFAULT = re.compile(r"\[default: (?P<said>[^\];]+)")

# Options that a command decides on itself: (command, option) -> what its help must say.
CHOSEN = {
    ("demo", "collection"): "demo.omni in omnivec's cache",
    ("search", "mode"): "hybrid for a text, vector for an image",
    ("search", "thumbnails"): "if the terminal supports it",
    ("embed", "output"): "JSON lines on stdout",
    ("embed", "normalize"): "as the model does",
    ("embed", "precision"): "chosen automatically",
    ("embed", "truncate"): "as the model specifies, usually tail",
    ("embed", "batch_size"): "as many as a budget of tokens allows",
    ("info", "engine"): "chosen automatically",
    ("info", "precision"): "chosen automatically",
    (
        "classify",
        "templates",
    ): f"{get('image').templates[0]!r} for images, {get('text').templates[0]!r} for texts",
    ("classify", "top"): "1",
    ("classify", "column"): "file, path, text or the like",
    ("classify", "label"): "label, class, category or target",
    ("classify", "kind"): "auto",
    ("classify", "scale"): f"{SCALE:g}",
    ("duplicates", "cosine"): f"{COSINE:g}",
    ("voice", "profiles"): f"${VARIABLE}, else {NAME} here or in the nearest parent",
    ("voice", "model"): f"that of the enrolled voices, else {VOICE_MODEL}",
    ("voice", "vad"): "as the enrolled voices, else on",
    ("voice", "normalize"): f"if it has {NORMALIZED} speakers",
}


def true_default(words: tuple[str, ...], option: click.Option) -> str | None:
    """What a command takes where an option is not given; None where that is nothing to be named."""
    if words[0] == "train":
        recipe = recipes()[words[1]]
        own = {one.name: one.default for one in recipe.options}.get(option.name)
        return None if own is None else str(own)
    if option.name == "collection" and words[0] != "demo":
        return f"${common.VARIABLE}, else {common.NAME} here or in the nearest parent"
    if (words[0], option.name) in CHOSEN:
        return CHOSEN[words[0], option.name]
    simple = isinstance(option.default, str | int | float) and not option.is_flag
    return str(option.default) if simple else None


@pytest.mark.parametrize("words", ALL_COMMANDS, ids=" ".join)
def test_help_names_the_true_default_of_every_option(words):
    context = click.Context(ALL_COMMANDS[words], info_name="omnivec")
    for option in ALL_COMMANDS[words].params:
        if isinstance(option, click.Option) and (record := option.get_help_record(context)) is not None:
            said = DEFAULT.search(" ".join(record[1].split()))
            assert (said and said["said"]) == true_default(words, option), f"{words}: {option.opts}"


def test_every_public_name_is_documented():
    text = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    lacking = [
        name for name in omnivec.__all__ if not re.search(rf"(?<![\w.])(omnivec\.)?{name}(?!\w)", text)
    ]
    assert lacking == []


# Why a page may name what docs/index.md does not list: page -> why.
OF_THE_HOUSE = {
    "decisions.md": "it says how the house is built",
    "CHANGELOG.md": "it says what changed in it",
}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_names_that_pages_use_are_there_and_public(page):
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"entry-points\..*", "", text)
    listed = listed_names()
    assert unknown_names(text) == []
    if page.name not in OF_THE_HOUSE:
        assert [name for name in used_names(text) if not is_listed(name, listed)] == []


def used_names(text: str) -> list[str]:
    """The names within omnivec that a page uses, as `omnivec.name` or imported from there."""
    dotted = re.findall(r"(?<![\w./-])(?<!from )omnivec((?:\.[A-Za-z_]\w*)+)", text)
    imported = re.findall(r"^from omnivec((?:\.\w+)*) import ([\w, ]+)", text, re.M)
    found = {name[1:] for name in dotted}
    for module, names in imported:
        found |= {f"{module}.{name.strip()}".lstrip(".") for name in names.split(",")}
    return sorted(found)


def listed_names() -> set[str]:
    """What the tables of docs/index.md list: names, and modules as omnivec.module."""
    cells = re.findall(r"^\| (`[^|]+) \|", (DOCS / "index.md").read_text(encoding="utf-8"), re.M)
    return {name.removeprefix("omnivec.") for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def is_listed(name: str, listed: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:n]) in listed for n in range(1, len(parts) + 1))


def unknown_names(text: str) -> list[str]:
    """The names that a page uses and that lead nowhere."""
    return [name for name in used_names(text) if not _leads(name.split("."))]


def _leads(parts: list[str]) -> bool:
    found: object = omnivec
    for n, part in enumerate(parts, 1):
        with contextlib.suppress(ImportError):
            importlib.import_module(".".join(["omnivec", *parts[:n]]))
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


def test_names_that_lead_nowhere_or_are_private_are_found():
    text = "`omnivec.load`, `omnivec.vectors.zero_shot`, `omnivec.lod`\n\nfrom omnivec.models.loading import load\n"
    assert used_names(text) == ["load", "lod", "models.loading.load", "vectors.zero_shot"]
    assert unknown_names(text) == ["lod"]
    assert not is_listed("models.loading.load", listed_names())


def test_every_exported_name_is_listed():
    assert set(omnivec.__all__) <= listed_names()


MEMBERS_OF = {
    "Embedder": ("load.md", "audio.md"),
    "KeyedEmbedder": ("words.md",),
    "Collection": ("collection.md",),
    "Voices": ("voice.md",),
}


@pytest.mark.parametrize("name", MEMBERS_OF)
def test_every_public_method_is_documented(name):
    page = "\n".join((DOCS / page).read_text(encoding="utf-8") for page in MEMBERS_OF[name])
    methods = [member for member in house.members(getattr(omnivec, name)) if not member.startswith("_")]
    assert [method for method in methods if not re.search(rf"\b{method}\b", page)] == []


def test_every_recipe_and_its_options_are_documented():
    found = sections(DOCS / "train.md")
    for recipe in recipes().values():
        section = found.get(recipe.name, "")
        assert [option.name for option in recipe.options if f"`{option.name}`" not in section] == [], (
            recipe.name
        )


def test_every_variable_is_documented():
    source = "\n".join(path.read_text(encoding="utf-8") for path in house.modules().values())
    text = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    variables = set(re.findall(r"\bOMNIVEC_[A-Z_]+\b", source))
    assert variables >= {"OMNIVEC_CACHE", "OMNIVEC_COLLECTION"}
    assert [name for name in sorted(variables) if name not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for target in (match["target"] for match in LINK.finditer(page.read_text(encoding="utf-8"))):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in {_anchor(title) for title in sections(file)}, f"{page.name}: {target}"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_the_readme_has_its_two_commands():
    text = PAGES[0].read_text(encoding="utf-8")
    assert all(f"\n{command}\n" in text for command in README_COMMANDS)


def test_the_readme_shows_the_house_as_it_is():
    tree = next(block.text for block in blocks(PAGES[0]) if block.text.startswith("src/omnivec/"))
    shown = set(re.findall(r"^  (\S+)", tree, re.M))
    there = {path.name + "/" * path.is_dir() for path in house.SRC.iterdir() if path.name != "__pycache__"}
    assert shown == there - {"py.typed"}


def test_every_dependency_has_its_reason():
    import tomllib

    project = tomllib.loads((house.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["parquet"]]
    text = (DOCS / "decisions.md").read_text(encoding="utf-8")
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in wanted]
    assert [name for name in [*names, "torch"] if not re.search(rf"^\*\*{name}\*\*", text, re.M)] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pages_are_sober(page):
    """No badges, no pictographs, no praise of itself; lines that a diff can show."""
    text = page.read_text(encoding="utf-8")
    assert not re.search("[\U0001f000-\U0001faff\u2600-\u27bf]", text)
    assert "shields.io" not in text and "badge" not in text.lower()
    praise = r"\b(blazing|lightning|powerful|seamless\w*|effortless\w*|state-of-the-art|revolutionary|cutting-edge)\b"
    assert re.findall(praise, text, re.IGNORECASE) == []


def test_the_api_page_shows_every_public_name():
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: omnivec\.(\w+)$", page, re.M)) == sorted(
        set(omnivec.__all__) - {"__version__"}
    )
