"""Gated feed-forward networks in bfloat16 with one thread for each stream.

On CPUs with AMX, OpenVINO's own fusion of them divided by zero, and the process died.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import sys
import numpy as np
from omnivec.ops.base import Input, EngineSettings
from omnivec.ops.openvino import compile_program
from omnivec.weights.tensor import from_array

act, width = sys.argv[1], 64
random = np.random.default_rng(0)
shapes = {"gate.weight": (2 * width, width), "up.weight": (2 * width, width), "down.weight": (width, 2 * width)}
arrays = {name: random.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}

def program(ops, get, p):
    x = get("x")
    acts = {"gelu": ops.gelu, "tanh": lambda y: ops.gelu(y, "tanh"), "silu": ops.silu}
    return {"y": ops.linear(acts[act](ops.linear(x, p["gate"])) * ops.linear(x, p["up"]), p["down"])}

inputs = (Input("x", np.float32, (None, None, width)),)
tensors = {name: from_array(name, array) for name, array in arrays.items()}
x = random.normal(size=(3, 5, width)).astype(np.float32)
for precision in ("float32", "bfloat16"):
    run = compile_program(program, inputs, tensors, EngineSettings(precision, threads=1)).run
    print(" ".join(map(str, run({"x": x})["y"].ravel().tolist())))
"""


@pytest.mark.parametrize("act", ["gelu", "tanh", "silu"])
def test_a_gated_network_runs_on_one_thread(act: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, act], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    exact, rounded = (np.array(line.split(), np.float64) for line in done.stdout.splitlines())
    assert np.abs(rounded - exact).max() < 0.02 * np.abs(exact).max()
