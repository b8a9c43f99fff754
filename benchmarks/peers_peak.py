"""How fast this machine multiplies matrices: python benchmarks/peers_peak.py THREADS prints GFLOP/s as JSON.

The best of torch and OpenVINO, float32 and bfloat16, square matrices, all threads: what an encoder could come near.
And the operations that a BERT needs, by its config.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

SIZES = (1024, 2048)
SECONDS = 0.6


def model_flops(config: Mapping[str, int], lengths: Sequence[int]) -> float:
    """Operations (a multiplication and an addition are two) of a BERT for texts of so many tokens, padding left out.

    Each layer has four products of (n, h) with (h, h), two with (h, f), and two of attention, (n, h) with (h, n).
    """
    width, inner, layers = (config[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    products = 8 * width**2 + 4 * width * inner
    return float(layers * sum(n * products + 4 * n * n * width for n in lengths))


def counted_flops(call: Callable[[], Any]) -> float:
    """Operations (a multiplication and an addition are two) of a call of torch.

    torch counts them, but would take those of its fused attention on CPUs for none.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    fused = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}
    with FlopCounterMode(display=False, custom_mapping=fused) as counted:
        call()
    return float(counted.get_total_flops())


def attention_flops(queries: Any, keys: Any, values: Any, *_: Any, **__: Any) -> int:
    """Operations of attention, both products, by the shapes (n, h, t, d), (n, h, s, d) and (n, h, s, e)."""
    n, h, t, d = queries
    s, e = values[2:]
    return int(2 * n * h * t * s * (d + e))


def best_rate(call: Callable[[], Any], size: int) -> float:
    """GFLOP/s of the fastest product of two (size, size)."""
    call()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def torch_product(precision: str, size: int, threads: int) -> Callable[[], Any]:
    """A product in torch."""
    import torch

    torch.set_num_threads(threads)
    a, b = (torch.randn(size, size, dtype=getattr(torch, precision)) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def openvino_product(precision: str, size: int, threads: int) -> Callable[[], Any]:
    """A product in OpenVINO, with one constant side as in a model."""
    from omnivec.ops.openvino_nodes import o as nodes
    from omnivec.ops.openvino_nodes import ov as openvino  # imported there, without its telemetry

    random = np.random.default_rng(0)
    left, right = (random.standard_normal((size, size), np.float32) for _ in range(2))
    given = nodes.parameter([size, size], np.float32)
    graph = openvino.Model([nodes.matmul(given, nodes.constant(right), False, True)], [given])
    hints = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": str(threads),
    }
    request = openvino.Core().compile_model(graph, "CPU", hints).create_infer_request()
    return lambda: request.infer([left], share_inputs=True, share_outputs=True)


def main(threads: int) -> None:
    """Measures and prints."""
    found = {
        precision: max(
            best_rate(product(precision, size, threads), size)
            for product in (torch_product, openvino_product)
            for size in SIZES
        )
        for precision in ("float32", "bfloat16")
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
