"""Variants of a model: options of `omnivec.load` that change its vectors, and so make it another model.

A variant is named like the extras of a package: "whisper-tiny.en[layer=2,fast]" is what
`omnivec.load("whisper-tiny.en", layer=2, fast=True)` loads. So a collection can record it, and a command name it.
The options are keys of config.json; a family covers those that are fields of its `Config`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from omnivec.errors import UsageError
from omnivec.validation.arguments import flag, said, whole

OPTIONS: Mapping[str, str] = {
    "layer": "the hidden state that is pooled, 0 for the embeddings",
    "fast": "whether a shorter, approximate computation is used that gives other vectors",
}
"""What each option means, for messages."""

_NAME = re.compile(r"(?P<name>.+)\[(?P<options>[a-z_]+(?:=[\w.-]*)?(?:,[a-z_]+(?:=[\w.-]*)?)*)\]", re.DOTALL)


def split(name: str | Path) -> tuple[str | Path, dict[str, Any]]:
    """Splits a name into that of the model and its options.

    Example: "whisper-base[fast]" -> ("whisper-base", {"fast": True}); a folder of this name, and a name without
    brackets, are returned unchanged, without options.

    Raises:
        UsageError: an option is unknown, or has an invalid value.
    """
    matched = _NAME.fullmatch(name) if isinstance(name, str) else None
    if matched is None or Path(name).exists():
        return name, {}
    options: dict[str, Any] = {}
    for option in matched["options"].split(","):
        key, has_value, value = option.partition("=")
        if key in options:
            raise UsageError(f"{name}: the option {key!r} is given twice")
        options[key] = _parsed(value) if has_value else True
    try:
        return matched["name"], checked(options)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def chosen(name: str | Path, options: Mapping[str, Any]) -> tuple[str | Path, dict[str, Any]]:
    """Splits a name, and adds the options of a call, None for those not given.

    Raises:
        UsageError: an option is unknown, invalid, or given in the name and in the call with different values.
    """
    plain, named = split(name)
    given = checked(options)
    for key in named.keys() & given.keys():
        if named[key] != given[key]:
            raise UsageError(f"{name} and {key}={said(given[key])} contradict each other: give one of them")
    return plain, checked(named | given)


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that were given, in a fixed order; UsageError if one is unknown or invalid."""
    for key in options:
        if key not in OPTIONS:
            raise UsageError(f"{key!r} is none of the options {', '.join(OPTIONS)}")
    given = {key: options[key] for key in OPTIONS if options.get(key) is not None}
    layer = given.get("layer")
    if layer is not None and not (isinstance(layer, str) and layer.isidentifier()):  # some layers have names
        given["layer"] = whole("layer", layer, 0)
    if "fast" in given and not flag("fast", given["fast"]):
        del given["fast"]
    return given


def suffix(options: Mapping[str, Any]) -> str:
    """Returns what is appended to the name of a model: "[layer=2,fast]"; "" without options."""
    shown = [key if value is True else f"{key}={value}" for key, value in options.items()]
    return f"[{','.join(shown)}]" if shown else ""


def check_covered(options: Mapping[str, Any], config: type[Any], family: str) -> None:
    """Raises UsageError if an option is not a field of the family's `Config`."""
    known = {field.name for field in fields(config)} if options else set()
    for key, value in options.items():
        if key not in known:
            raise UsageError(
                f"{key}={said(value)} ({OPTIONS[key]}) is not an option of models of the family {family}: leave it out"
            )


def _parsed(value: str) -> Any:
    """The value of an option in a name: a whole number, true, false, or a text, which is refused later."""
    if value in ("true", "false"):
        return value == "true"
    return int(value) if value.isascii() and value.isdigit() else value
