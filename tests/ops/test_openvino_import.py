"""OpenVINO is imported without its converter of foreign models, which is there for who asks for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from patience import PATIENCE

CONVERTS = """
import numpy as np, openvino, torch
class Doubled(torch.nn.Module):
    def forward(self, x):
        return 2 * x
made = openvino.convert_model(Doubled(), example_input=torch.ones(3))
out = openvino.compile_model(made, "CPU")(np.array([1, 2, 3], np.float32))
print(out[0].tolist())
"""
QUIET = "import sys\nsys.modules['openvino_telemetry'] = None\n"
OURS = "from omnivec.ops import openvino_nodes\n"
ORDERS = {
    "ours first": OURS + CONVERTS,
    "OpenVINO first": QUIET + "import openvino\n" + OURS + CONVERTS,
}


@pytest.mark.parametrize("order", ORDERS)
def test_who_converts_models_with_openvino_can_do_so_beside_omnivec(order):
    done = subprocess.run(
        [sys.executable, "-c", ORDERS[order]], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stdout.splitlines()[-1:] == ["[2.0, 4.0, 6.0]"], done.stderr
