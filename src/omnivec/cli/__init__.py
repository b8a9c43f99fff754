"""The command line: parse, one call of the library, print. One file is one command."""

from __future__ import annotations

import os

# Before NumPy is loaded: a command's few products are small, and starting the threads of its linear algebra takes
# longer than they do. The engine has threads of its own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
