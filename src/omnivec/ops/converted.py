"""Torch networks as OpenVINO graphs: converted once, then inserted into other graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import openvino as ov

from omnivec.errors import ModelError


def convert(script: Any) -> Any:
    """The graph of a TorchScript function, an `openvino.Model` with the same inputs.

    Raises:
        ModelError: OpenVINO has no counterpart for one of its operations.
    """
    try:
        return ov.convert_model(script)
    except Exception as exc:
        lines = [line.strip(" -") for line in str(exc).splitlines() if line.strip()]
        reasons = [line for line in lines if "No conversion rule" in line] or lines[-1:]
        raise ModelError(f"it cannot be converted ({' '.join(reasons) or type(exc).__name__})") from exc


def splice(graph: Any, inputs: Sequence[Any]) -> list[Any]:
    """Inserts a copy of a graph into another one and returns its outputs.

    Args:
        graph: an `openvino.Model`.
        inputs: outputs of the other graph, which replace the parameters in order.
    """
    copy = graph.clone()
    for parameter, replacement in zip(copy.get_parameters(), inputs, strict=True):
        parameter.output(0).replace(replacement)
    return [result.input_value(0) for result in copy.get_results()]
