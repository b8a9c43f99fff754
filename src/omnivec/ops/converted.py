"""Networks of torch as OpenVINO graphs: converted once, then a part of any graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import openvino as ov

from omnivec.errors import ModelError


def convert(script: Any) -> Any:
    """The graph of a TorchScript function, an `openvino.Model` that takes what the function takes.

    Raises:
        ModelError: OpenVINO has no counterpart of some of its operations.
    """
    try:
        return ov.convert_model(script)
    except Exception as exc:
        lines = [line.strip(" -") for line in str(exc).splitlines() if line.strip()]
        telling = [line for line in lines if "No conversion rule" in line] or lines[-1:]
        raise ModelError(f"it cannot be converted ({' '.join(telling) or type(exc).__name__})") from exc


def splice(graph: Any, inputs: Sequence[Any]) -> list[Any]:
    """The outputs of a graph as a part of another one, whose outputs `inputs` take the place of its parameters."""
    part = graph.clone()
    for parameter, given in zip(part.get_parameters(), inputs, strict=True):
        parameter.output(0).replace(given)
    return [result.input_value(0) for result in part.get_results()]
