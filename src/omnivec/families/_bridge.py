"""Networks of the library transformers, built from a config and run with weights that are passed to them.

transformers reads no weights: they are read by omnivec and matched by name, and no weight keeps a random value.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from omnivec.errors import ModelError, UnsupportedModel, WeightsError
from omnivec.ops.base import Params
from omnivec.validation.reasons import one_line
from omnivec.weights.tensor import FLOATING, Tensor, from_array

UNLIMITED = 1 << 20
"""The limit of networks without one, in tokens: far more than memory holds."""

# Keys of config.json that may state the number of positions.
LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_seq_length", "seq_length")

# Which token of a text has segment 2 instead of 0, as these models' tokenizers set it.
MARKED = {"funnel": "first", "xlnet": "last"}

# Legacy buffers that transformers ignores in every checkpoint.
COMPUTED = r"\b(inv_freq|position_ids|token_type_ids)$"

# Dropout rates by their keys in config.json, or one rate for all.
Rates = tuple[tuple[str, float], ...] | float

# The dictionary of a torch module that holds a weight, and its key there.
Slot = tuple[dict[str, Any], str]


@functools.lru_cache(maxsize=4)
def network(config_json: str, dropouts: Rates, padded: bool = True) -> BridgedNetwork:
    """The network of a config, which must not be changed; the arguments are fields of `transformers.Config`."""
    return BridgedNetwork(json.loads(config_json), dropouts, padded)


class BridgedNetwork:
    """A network of transformers whose weights are passed with each call; several threads may call it.

    Attributes:
        names: names of the weights that it takes; tied weights have their first name.
        vocab_size: rows of the embedding table.
        pad_id: id of the padding token.
        max_length: longest text in tokens.
    """

    def __init__(self, config: Mapping[str, Any], dropouts: Rates, padded: bool) -> None:
        self._kind, self._padded, self._lock = str(config["model_type"]), padded, threading.RLock()
        self._config = _configured(config, dropouts)
        self._base = _built(self._config, initialised=False)
        self._module = self._base.get_encoder() if self._config.is_encoder_decoder else self._base
        table = _table(self._base)
        self.vocab_size = int(table.weight.shape[0])
        self.pad_id = min(int(getattr(self._config, "pad_token_id", None) or 0), self.vocab_size - 1)
        self.max_length = _max_length(self._config, self._module, table)
        self._within = next(name for name, module in self._base.named_modules() if module is self._module)
        self._slots, self._aliases = _weights(self._base, self._within)
        self.names = tuple(self._slots)
        self._buffers = {name for name, _ in self._base.named_buffers()}
        self._shapes = {name: tuple(slots[0][0][slots[0][1]].shape) for name, slots in self._slots.items()}
        self._takes = _arguments(self._module)
        _forget(self._module)

    def __call__(self, inputs: Sequence[Any], p: Params, training: bool = False) -> list[Any]:
        """Runs the network: ids and mask (n, t) -> the hidden states that it returns, the last one at the end."""
        ids, mask = inputs
        with self._lock, self._holding([p[name] for name in self.names], ids.device):
            self._module.train(training)
            try:
                return self._run(ids, mask) if self._padded else self._run_by_length(ids, mask)
            # Networks raise exceptions of any type.
            except Exception as exc:
                raise ModelError(
                    f"{self._kind}: transformers could not run a batch {tuple(ids.shape)}: {_one_line(exc)}"
                ) from exc

    def states(self, batch: Mapping[str, Any], p: Params) -> list[Any]:
        """Runs the network on the CPU, with arrays in place of tensors."""
        import torch

        with torch.no_grad():
            states = self([torch.from_numpy(batch[name]) for name in ("ids", "mask")], p)
        return [tensor.numpy() for tensor in states]

    @functools.cached_property
    def graph(self) -> Any:
        """The network as an OpenVINO graph whose inputs are ids, mask and then the weights in the order of `names`."""
        import torch

        from omnivec.ops.converted import convert

        def traced(ids: Any, mask: Any, *values: Any) -> tuple[Any, ...]:
            with self._holding(values, ids.device):
                return tuple(self._run(ids, mask))

        # Tracing records operations, not values, so expanded zeros, which take no memory, serve as weights.
        zeros = [torch.zeros(1).expand(shape) for shape in self._shapes.values()]
        mask = (torch.arange(11) < torch.tensor([[11], [6]])).int()
        with self._lock, torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._module.eval()
            try:
                script = torch.jit.trace(
                    traced, (torch.ones_like(mask), mask, *zeros), check_trace=False, strict=False
                )
            except Exception as exc:
                raise ModelError(f"it cannot be traced: {_one_line(exc)}") from exc
            return convert(script)

    def match(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights that the network takes, by its names for them; those of heads are left out.

        Raises:
            WeightsError: weights are missing or have another shape, or the network has no place for some.
        """
        prefix = f"{self._base.base_model_prefix}."
        tensors = {name.removeprefix(prefix): tensor for name, tensor in stored.items()}
        matched = {
            name: replace(tensors[alias], name=name)
            for name, aliases in self._aliases.items()
            for alias in [next((alias for alias in aliases if alias in tensors), None)]
            if alias is not None
        }
        matched |= self._computed([name for name in self.names if name not in matched])
        prefixed = [name for name in stored if name.startswith(prefix)]
        inside = {name.removeprefix(prefix) for name in prefixed or stored}
        known = {alias for aliases in self._aliases.values() for alias in aliases}
        faults = {
            "are missing": [name for name in self.names if name not in matched],
            "have another shape": [
                n for n in self.names if n in matched and matched[n].shape != self._shapes[n]
            ],
            "have no place": [n for n in sorted(inside - known) if not self._is_beside(n, tensors[n])],
        }
        problems = [
            f"{len(n)} {what} ({', '.join(n[:3])}{', ...' * (len(n) > 3)})" for what, n in faults.items() if n
        ]
        if problems:
            raise WeightsError(
                f"the weights do not fit config.json ({self._kind}, {len(self.names)} weights): {'; '.join(problems)}"
            )
        return {name: matched[name] for name in self.names}

    def _is_beside(self, name: str, tensor: Tensor) -> bool:
        """Whether a weight may be ignored: it is of a head, a decoder or a pooler, or transformers ignores it too."""
        ignored = (*(self._base._keys_to_ignore_on_load_unexpected or ()), COMPUTED)
        children = {child for child, _ in self._module.named_children()} - {"pooler"}
        path = name.removeprefix(f"{self._within}.") if self._within else name
        return (
            tensor.dtype not in FLOATING
            or (bool(self._within) and path == name)
            or ("." in path and path.partition(".")[0] not in children)
            or any(re.search(pattern, name) for pattern in ignored)
        )

    def _computed(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Those of these weights, missing in a checkpoint, that are not published since the config determines them."""
        prefix = f"{self._base.base_model_prefix}."
        patterns = [
            *(self._base._keys_to_ignore_on_load_missing or ()),
            *(self._base._keys_to_ignore_on_save or ()),
        ]
        computed = [
            name
            for name in names
            if name in self._buffers or any(re.search(pattern, prefix + name) for pattern in patterns)
        ]
        if not computed:
            return {}
        state = _built(self._config, initialised=True).state_dict()
        return {name: from_array(name, state[name].numpy()) for name in computed}

    @contextmanager
    def _holding(self, values: Sequence[Any], device: Any) -> Iterator[None]:
        """Puts these weights into the network, and its buffers on their device, until the end of the block."""
        for module in self._module.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.device != device and buffer.device.type != "meta":
                    module._buffers[name] = buffer.to(device)
        try:
            for slots, value in zip(self._slots.values(), values, strict=True):
                for table, key in slots:
                    table[key] = value
            yield
        finally:
            _forget(self._module)

    def _run(self, ids: Any, mask: Any) -> list[Any]:
        places = {"input_ids": ids.long(), "attention_mask": mask.long()}
        if self._kind in MARKED and "token_type_ids" in self._takes:
            places["token_type_ids"] = _segments(mask.long(), MARKED[self._kind])
        asked = {**places, "output_hidden_states": True, "return_dict": True}
        outputs = self._module(**{name: value for name, value in asked.items() if name in self._takes})
        return [*(outputs.hidden_states or ()), outputs.last_hidden_state]

    def _run_by_length(self, ids: Any, mask: Any) -> list[Any]:
        """Runs texts of equal length together, so that none is padded."""
        lengths = mask.sum(1)
        outputs: list[Any] = []
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            states = self._run(ids[rows, :length], mask[rows, :length])
            outputs = outputs or [state.new_zeros((*ids.shape, state.shape[-1])) for state in states]
            for output, state in zip(outputs, states, strict=True):
                if state.shape[:2] == (len(rows), length):
                    output[rows, :length] = state
        return outputs


def is_number(value: Any) -> bool:
    """Whether a value of config.json is a number and not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _configured(published: Mapping[str, Any], dropouts: Rates) -> Any:
    """The transformers config object of a config.json.

    Raises:
        ModelError: transformers refuses a value.
    """
    from transformers import AutoConfig

    rates = dict(dropouts) if isinstance(dropouts, tuple) else {}
    try:
        config = AutoConfig.for_model(**{**published, **rates, "use_cache": False})
        if not isinstance(dropouts, tuple):
            for key, value in config.to_dict().items():
                if "drop" in key and is_number(value):
                    setattr(config, key, dropouts)
    except Exception as exc:
        raise ModelError(
            f"config.json cannot be read as {published['model_type']}: {_one_line(exc)}"
        ) from exc
    return config


def _built(config: Any, initialised: bool) -> Any:
    """Builds the network of a config; without initialisation, its weights are uninitialised memory."""
    import torch
    from transformers import AutoModel
    from transformers.initialization import no_init_weights

    try:
        with nullcontext() if initialised else no_init_weights():
            base = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
        base.tie_weights()
    except Exception as exc:
        raise ModelError(f"transformers cannot build {config.model_type}: {_one_line(exc)}") from exc
    if base.main_input_name != "input_ids":
        raise UnsupportedModel(
            f"model_type {config.model_type!r} takes {base.main_input_name}: only models of text are run through "
            "transformers"
        )
    for module in (base, base.get_encoder() if config.is_encoder_decoder else base):
        if isinstance(getattr(module, "pooler", None), torch.nn.Module):
            module.pooler = torch.nn.Identity()  # It follows the hidden states, and is often untrained.
    return base


def _table(base: Any) -> Any:
    """The embedding module of a network's tokens."""
    try:
        return base.get_input_embeddings()
    except NotImplementedError as exc:
        raise UnsupportedModel(f"model_type {base.config.model_type!r} has no embedding table") from exc


def _weights(base: Any, within: str) -> tuple[dict[str, list[Slot]], dict[str, list[str]]]:
    """The slots of the weights in one submodule, and all names of these weights in the whole network.

    Tied weights, of which two names are one tensor, have one entry, by the first name, with both slots and both names.

    Args:
        base: the whole network.
        within: name of the submodule, such as "encoder"; "" for all of the network.

    Returns:
        Name of each weight -> its slots; name -> all of its names.
    """
    same: dict[int, str] = {}
    slots: dict[str, list[Slot]] = {}
    aliases: dict[str, list[str]] = {}
    prefix = f"{within}." if within else ""
    listed = list(base.named_parameters(remove_duplicate=False))
    for name, value in sorted(listed, key=lambda one: not one[0].startswith(prefix)):
        path, _, key = name.rpartition(".")
        if name.startswith(prefix):
            first = same.setdefault(id(value), name)
            slots.setdefault(first, []).append((base.get_submodule(path)._parameters, key))
        if id(value) in same:
            aliases.setdefault(same[id(value)], []).append(name)
    for path, module in base.get_submodule(within).named_modules(prefix=within):
        for key, buffer in module._buffers.items():
            stored = buffer is not None and key not in module._non_persistent_buffers_set
            if stored and buffer.is_floating_point():
                name = f"{path}.{key}" if path else key
                slots[name], aliases[name] = [(module._buffers, key)], [name]
    return slots, aliases


def _forget(module: Any) -> None:
    """Removes the weights from a network, so that one that is not set again raises an error instead of being random."""
    import torch

    empties: dict[int, Any] = {}
    for submodule in module.modules():
        for name, value in submodule._parameters.items():
            if value is not None and value.device.type != "meta":
                empty = empties.setdefault(
                    id(value), torch.nn.Parameter(torch.empty_like(value, device="meta"))
                )
                submodule._parameters[name] = empty


def _arguments(module: Any) -> frozenset[str]:
    """Which of the arguments that may be passed a network's forward takes."""
    asked = ("input_ids", "attention_mask", "token_type_ids", "output_hidden_states", "return_dict")
    parameters = inspect.signature(module.forward).parameters
    loose = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    flags = asked[3:] if loose else ()
    return frozenset(name for name in asked if name in parameters or name in flags)


def _max_length(config: Any, module: Any, table: Any) -> int:
    """The longest text in tokens: the number of positions, less those up to the padding's where they start after it."""
    limits = [getattr(config, name, None) for name in LIMITS]
    places = next((int(limit) for limit in limits if isinstance(limit, int) and limit > 0), UNLIMITED)
    for submodule in module.modules():
        weight, padding = getattr(submodule, "weight", None), getattr(submodule, "padding_idx", None)
        if (
            submodule is not table
            and padding is not None
            and weight is not None
            and weight.shape[0] == places
        ):
            return places - int(padding) - 1
    return places


def _segments(mask: Any, marked: str) -> Any:
    """Segments (n, t): 2 for the first or the last token that is not padding, else 0."""
    count = mask.cumsum(1) * mask
    return 2 * (count == (1 if marked == "first" else mask.sum(1, keepdim=True))).long()


def _one_line(exc: Exception) -> str:
    return one_line(exc)[:240]
