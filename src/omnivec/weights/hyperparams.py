"""Reads plain values from the YAML files of SpeechBrain, WeSpeaker and pyannote, without making the objects they name.

hyperparams.yaml of SpeechBrain is a program: `!new:`, `!name:` and `!apply:` call any function. Here a tag only names
what it stands for, and nothing is imported:

    n_mels: 80                                           {"n_mels": 80,
    features: !new:speechbrain.lobes.features.Fbank       "features": {"!": "new:speechbrain.lobes.features.Fbank",
        n_mels: !ref <n_mels>                                          "n_mels": 80},
    activation: !name:torch.nn.LeakyReLU                  "activation": {"!": "name:torch.nn.LeakyReLU"}}
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from omnivec.errors import ModelError
from omnivec.validation.reasons import one_line

TAG = "!"
"""Key of the tag, without its exclamation mark, of a value that has one."""

_LARGEST = 1 << 20  # bytes
_MOST, _DEEPEST = 100_000, 50  # values, and levels of references and nesting
_REFERENCE = re.compile(r"<([\w.-]+)>")


class _Reference(str):
    """The text of a `!ref`."""

    __slots__ = ()


def read_hyperparams(file: Path) -> dict[str, Any]:
    """Reads a YAML file: its tables, lists, texts, numbers and booleans; objects are tables with the key `TAG`.

    A reference to another value, `!ref <name>`, is replaced by that value; one with more text in it stays a text.

    Raises:
        ModelError: the file is missing, larger than 1 MiB, not a table in YAML, or nested too deeply.
    """
    import yaml  # huggingface_hub depends on it; imported here, since few models need it

    loader_class: Any = type("Loader", (yaml.SafeLoader,), {})  # so that the constructor is added to no other

    def tagged(loader: Any, suffix: str, node: Any) -> Any:
        if isinstance(node, yaml.MappingNode):
            return {TAG: suffix, **loader.construct_mapping(node, deep=True)}
        if isinstance(node, yaml.SequenceNode):
            return {TAG: suffix, "items": loader.construct_sequence(node, deep=True)}
        return _Reference(node.value) if suffix == "ref" else {TAG: suffix}

    loader_class.add_multi_constructor("!", tagged)
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ModelError(f"{file} is larger than 1 MiB: it is not the settings of a model")
        values = yaml.load(content, loader_class)
        if not isinstance(values, dict):
            raise ModelError(f"{file} is not a table of settings")
        resolved: dict[str, Any] = _Resolver(values).resolved(values)
        return resolved
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise ModelError(f"{file} is not YAML that can be read: {one_line(error)}") from error


class _Resolver:
    """Replaces the references in values.

    A file of a few lines may refer to itself again and again, by references or by YAML's own anchors, so that its
    values grow without end: they are counted.
    """

    def __init__(self, values: dict[Any, Any]) -> None:
        self.values = values
        self.count = 0

    def resolved(self, value: Any, depth: int = 0) -> Any:
        """A value with its references replaced."""
        self.count += 1
        if self.count > _MOST or depth > _DEEPEST:
            raise RecursionError("its references or tables are nested without end")
        if isinstance(value, _Reference):
            match = _REFERENCE.fullmatch(value)
            if match is None or match[1] not in self.values:
                return str(value)
            return self.resolved(self.values[match[1]], depth + 1)
        if isinstance(value, dict):
            return {str(key): self.resolved(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list):
            return [self.resolved(each, depth + 1) for each in value]
        return value
