"""What a model's folder says, file by file: where its parts lie, and what is refused because nothing here obeys it.

Folders of transformers, of sentence-transformers 2 to 6, and of peft; docs/load.md has the table of files and keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnivec import hub
from omnivec.errors import DownloadError, ModelError, ModelNotFound, UnsupportedModel, UsageError
from omnivec.inputs.modality import names
from omnivec.models import registry
from omnivec.validation import typed
from omnivec.validation.json_files import part_of, read_json
from omnivec.weights.adapters import CONFIG, Adapter, read_adapter
from omnivec.weights.checkpoints import has_weights
from omnivec.weights.sentence_files import SentenceConfig, Transformer, modules

# The settings of a Transformer module; the first that holds something counts.
SENTENCE = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json")
# First modules that hold a model of transformers.
NETWORKS = ("Transformer", "CLIPModel")

# Arguments of from_pretrained that a folder may pass and that change how fast, not what.
FREE_ARGUMENTS = (
    *(
        "torch_dtype",
        "dtype",
        "attn_implementation",
        "device_map",
        "low_cpu_mem_usage",
        "use_safetensors",
        "revision",
    ),
    *(
        "trust_remote_code",
        "unpad_inputs",
        "use_memory_efficient_attention",
        "add_pooling_layer",
        "cache_dir",
        "token",
    ),
    *("local_files_only", "provider", "file_name", "export", "weights_only"),
)


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder, read.

    Attributes:
        folder: as it was named: the head's, the prompts'.
        root: where the network's settings lie: the folder itself, or the one of its first module.
        base: where config.json and the weights lie: `root`, or the model that an adapter was trained on.
        adapter: what changes the base's weights; None for nothing.
        published: config.json.
        sentence: settings of the Transformer module.
        card: config_sentence_transformers.json.
    """

    folder: Path
    root: Path
    base: Path
    adapter: Adapter | None
    published: Mapping[str, Any]
    sentence: Mapping[str, Any]
    card: Mapping[str, Any]

    @property
    def tokenizer(self) -> Path:
        """Where the tokenizer lies: an adapter may bring its own."""
        return self.root if any((self.root / name).is_file() for name in TOKENIZERS) else self.base

    @property
    def lower(self) -> bool:
        """Whether the Transformer module has its tokenizer lower-case texts."""
        return bool(self.sentence.get("do_lower_case"))

    @property
    def tokenizer_settings(self) -> Mapping[str, Any]:
        """What the Transformer module passes to its tokenizer."""
        return _table(self.sentence, "processor_kwargs", "tokenizer_args")


def read_folder(folder: Path, offline: bool | None = None) -> ModelFolder:
    """What a model's folder says.

    Args:
        folder: of the model.
        offline: whether the network is out of bounds for the base of an adapter; None as the environment says.

    Raises:
        ModelError: a file is missing or damaged, or the base of an adapter is nowhere.
        UnsupportedModel: it says something that changes vectors and is not covered.
    """
    root = transformer_folder(folder)
    adapter = read_adapter(root)
    base = root if adapter is None else _base_of(adapter, root, offline)
    published = read_json(base / "config.json", {}, dict) or registry.config_of_files(base)
    tables = (typed.table(Transformer, root / name, {}) for name in SENTENCE)
    sentence: Mapping[str, Any] = next((one for one in tables if one), {})
    card = typed.table(SentenceConfig, folder / "config_sentence_transformers.json", {})
    _refuse_sentence(sentence, root)
    default, prompts = card.get("default_prompt_name"), card.get("prompts") or {}
    if default is not None and default not in prompts:
        raise ModelError(
            f"{folder}/config_sentence_transformers.json: default_prompt_name {default!r} is none of its prompts: "
            f"{', '.join(prompts) or 'none'}"
        )
    if (model_type := card.get("model_type")) not in (None, "SentenceTransformer"):
        raise UnsupportedModel(
            f"{folder}/config_sentence_transformers.json: model_type {model_type!r} makes no vector of one text; "
            "covered is 'SentenceTransformer'"
        )
    arguments = _table(sentence, "config_kwargs", "config_args")
    published = {**published, **{key: value for key, value in arguments.items() if key not in FREE_ARGUMENTS}}
    _refuse_config(published, base)
    return ModelFolder(folder, root, base, adapter, published, sentence, card)


def transformer_folder(folder: Path) -> Path:
    """Where config.json and the weights are: the folder itself, or the one that modules.json names."""
    for module in modules(folder):
        if module.kind in NETWORKS:
            return part_of(folder, module.path, "modules.json")
    return folder


def _base_of(adapter: Adapter, root: Path, offline: bool | None) -> Path:
    """The folder of the model that an adapter was trained on.

    A folder that the adapter names counts first, then weights beside it, then a model of the hub.
    """
    name = adapter.base
    places = [root / name, Path(name)] if name else []
    base_folder = next(
        (place for place in places if (transformer_folder(place) / "config.json").is_file()), None
    )
    if base_folder is None and (root / "config.json").is_file() and has_weights(root):
        return root
    if base_folder is None:
        if not name:
            raise ModelError(
                f"{root}/{CONFIG} names no base model (base_model_name_or_path): put its path there"
            )
        try:
            base_folder = hub.resolve(name, known=registry.known(), offline=offline).folder
        except (ModelNotFound, DownloadError, UsageError) as error:
            raise ModelError(
                f"{root}/{CONFIG}: the base model {name!r} is no folder here, and not to be had; put the path of "
                f"its folder there. {error}"
            ) from error
    base = transformer_folder(base_folder)
    if base.resolve() != root.resolve() and (base / CONFIG).is_file():
        raise UnsupportedModel(
            f"{root}/{CONFIG}: its base model {base} is an adapter itself: merge that one first"
        )
    return base


def _table(settings: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The first of some tables within settings that holds something."""
    return next((dict(settings[name]) for name in names if isinstance(settings.get(name), Mapping)), {})


def _covered(output: str) -> list[tuple[str, str | None]]:
    """What a Transformer module may take, a method and an output: tokens' states, or a joint model's vectors."""
    if output == "token_embeddings":
        return [("forward", "last_hidden_state")]
    if output != "sentence_embedding":
        return []
    return [(f"get_{name}_features", taken) for name in names() for taken in ("pooler_output", None)]


def _refuse_sentence(settings: Mapping[str, Any], root: Path) -> None:
    """Raises UnsupportedModel for settings of the Transformer module that are not covered."""
    where = f"{root}/{next((name for name in SENTENCE if (root / name).is_file()), SENTENCE[0])}"
    task = settings.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise UnsupportedModel(f"{where}: transformer_task {task!r} makes no states of tokens; not covered")
    known = {*typed.keys(Transformer), *FREE_ARGUMENTS, "modality_config", "backend"}
    for name in settings:
        if name not in known and not typed.says_nothing(settings[name]):
            raise UnsupportedModel(f"{where}: {name} {settings[name]!r} is not covered")
    for name, value in _table(settings, "model_kwargs", "model_args").items():
        if name not in FREE_ARGUMENTS:
            raise UnsupportedModel(f"{where}: model_args {name} {value!r} is not covered")
    output = settings.get("module_output_name", "token_embeddings")
    for modality, way in _table(settings, "modality_config").items():
        if modality not in names() or not isinstance(way, Mapping):
            continue  # Of other items this library makes no use.
        took = (way.get("method"), way.get("method_output_name"))
        if took not in _covered(str(output)):
            raise UnsupportedModel(
                f"{where}: modality_config takes {took[1]!r} of {took[0]!r} as {output!r} for {modality}; not covered"
            )


def _refuse_config(published: Mapping[str, Any], base: Path) -> None:
    """Raises UnsupportedModel for what config.json of any family may say and no family covers."""
    if published.get("quantization_config"):
        raise UnsupportedModel(
            f"{base}/config.json has a quantization_config: weights quantized by others are not read; use the model "
            "that they were made from"
        )
    if published.get("pruned_heads"):
        raise UnsupportedModel(
            f"{base}/config.json: pruned_heads {published['pruned_heads']!r} is not covered"
        )


def refuse_own_code(published: Mapping[str, Any], known: bool, base: Path) -> None:
    """Raises UnsupportedModel where config.json names a network of the folder's own code.

    Args:
        published: config.json.
        known: whether the family covers what such code computes, or says by itself what it does not.
        base: where config.json lies.
    """
    auto_map = published.get("auto_map")
    if not known and isinstance(auto_map, Mapping) and auto_map.get("AutoModel"):
        raise UnsupportedModel(
            f"{base}/config.json: auto_map names a network of the folder's own code, {auto_map['AutoModel']}: it is "
            "never run, and may compute something else than its model_type says"
        )
