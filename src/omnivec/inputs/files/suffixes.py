"""Recognises text files, and their kind, by their names."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal

Kind = Literal["plain", "markdown", "rst", "html", "code", "data"]

_KINDS: dict[Kind, tuple[str, str]] = {
    # kind: (suffixes, whole names of files without a suffix), lower case
    "plain": (
        "txt text tex latex bib org adoc asciidoc textile wiki mediawiki srt vtt po",
        "readme license licence copying notice authors contributors changelog changes news history todo",
    ),
    "markdown": ("md markdown mdown mkd mdx qmd rmd", ""),
    "rst": ("rst rest", ""),
    "html": ("html htm xhtml", ""),
    "data": ("json jsonc json5 yaml yml toml ini cfg conf properties", ""),
    "code": (
        "py pyi pyx js mjs cjs ts mts cts tsx jsx java c h cpp hpp cc hh cxx hxx cu cuh m mm cs go rs rb php pl "
        "pm sh bash zsh fish ps1 bat sql swift kt kts scala groovy gradle r jl lua vue svelte css scss sass less "
        "el lisp scm rkt clj cljs cljc edn hs lhs ml mli fs fsx vb ex exs erl hrl elm dart zig nim d pas f90 f95 "
        "asm s v sv vhd vhdl proto thrift graphql gql cmake mk bzl nix tf sol",
        "makefile gnumakefile dockerfile containerfile jenkinsfile vagrantfile rakefile gemfile justfile",
    ),
}

SUFFIXES: dict[str, Kind] = {
    f".{suffix}": kind for kind, (row, _) in _KINDS.items() for suffix in row.split()
}
NAMES: dict[str, Kind] = {name: kind for kind, (_, row) in _KINDS.items() for name in row.split()}
NAMES["cmakelists.txt"] = "code"


def kind_of(path: PurePath) -> Kind | None:
    """Returns the kind of a text file by its name alone; None if the name is not that of a text file."""
    name = path.name.lower()
    return NAMES.get(name) or SUFFIXES.get(path.suffix.lower())
