"""`omnivec models`: lists known models and supported families."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from omnivec.cli.common import json_option, print_json, print_table
from omnivec.errors import ModelError
from omnivec.inputs.modality import get, written


@click.command("models", short_help="List known models and families.")
@json_option
def command(as_json: bool) -> None:
    """List the models that have a short name, whether they are on this machine, and the supported families.

    Any other model of these families can be loaded by its folder, or as hf:org/name.
    """
    from omnivec import hub
    from omnivec.models import registry

    known, families = registry.known(), registry.families()
    cached = hub.cached(known)
    here = {resolved.name: resolved.source for resolved in cached}
    others = [
        resolved.name for resolved in cached if resolved.name not in known and _holds_model(resolved.folder)
    ]
    if as_json:
        print_json({"model": name, **facts, "here": here.get(name)} for name, facts in known.items())
        print_json({"model": name, "here": here[name]} for name in others)
        return
    rows = [
        (
            name,
            facts["family"],
            facts["dim"],
            _reads(facts, families[facts["family"]].claims),
            facts["licence"],
            "yes" if name in here else "no",
        )
        for name, facts in known.items()
    ]
    print_table(("model", "family", "dim", "reads", "licence", "here"), rows)
    for name in others:
        click.echo(name)
    click.echo("\nfamilies")
    print_table(
        ("family", "model types", "what"),
        [(f.name, " ".join(f.claims.get("model_type", ())), f.summary) for f in families.values()],
    )


def _reads(facts: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """Returns how much of an item a known model reads, such as "256 tokens" or "224 x 224"."""
    record = get(claims.get("modality", written()))
    return record.input_size(facts) or f"{facts['length']} {record.unit}"


def _holds_model(folder: Path) -> bool:
    """Whether a folder of the cache is a model; the copy of a wheel that has its models in subfolders is not."""
    from omnivec.models import registry

    if any((folder / name).is_file() for name in ("config.json", "modules.json")):
        return True
    try:
        return bool(registry.config_of_files(folder))
    except ModelError:
        return False
