"""The JSON files in a folder of sentence-transformers as records: the keys that are read, and their types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from omnivec.validation import typed
from omnivec.validation.typed import Filled, Positions, Size


@dataclass(frozen=True)
class Module:
    """A row of modules.json.

    Attributes:
        type: the class, with its Python module.
        path: its folder, relative to the model's; "" for the model's folder itself.
    """

    type: Annotated[str, Filled()]
    path: str

    @property
    def kind(self) -> str:
        """The name of the class without its module."""
        return self.type.rsplit(".", 1)[-1]


@dataclass(frozen=True)
class SentenceConfig:
    """The keys of config_sentence_transformers.json that are read."""

    prompts: Mapping[str, str] | None = None
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None
    truncate_dim: Size | None = None
    model_type: str | None = None


@dataclass(frozen=True)
class Transformer:
    """The keys of sentence_bert_config.json, or its counterpart for other model types, that are read."""

    max_seq_length: Positions | None = None
    do_lower_case: bool | None = None
    transformer_task: str | None = None
    module_output_name: Any = None
    processor_kwargs: Mapping[str, Any] | None = None
    tokenizer_args: Mapping[str, Any] | None = None
    model_kwargs: Mapping[str, Any] | None = None
    model_args: Mapping[str, Any] | None = None
    config_kwargs: Mapping[str, Any] | None = None
    config_args: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Pooling:
    """The keys of a Pooling module's config.json that are read."""

    pooling_mode: str | tuple[str, ...] | None = None
    pooling_mode_cls_token: bool | None = None
    pooling_mode_max_tokens: bool | None = None
    pooling_mode_mean_tokens: bool | None = None
    pooling_mode_mean_sqrt_len_tokens: bool | None = None
    pooling_mode_weightedmean_tokens: bool | None = None
    pooling_mode_lasttoken: bool | None = None
    include_prompt: bool | None = None


@dataclass(frozen=True)
class Following:
    """The keys of the config.json of a module after the Pooling that are read."""

    in_features: Size | None = None
    out_features: Size | None = None
    bias: bool | None = None
    use_residual: bool | None = None
    activation_function: str | None = None
    module_input_name: str | None = None
    module_output_name: str | None = None


def modules(folder: Path) -> tuple[Module, ...]:
    """The modules of a model's folder; () if it has no modules.json.

    Raises:
        ModelError: a module has no type or no path, or the file is damaged.
    """
    return typed.rows(Module, folder / "modules.json", ())
