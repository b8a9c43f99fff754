"""The command line: each file is one command, which parses its arguments, calls the library and prints the result."""

from __future__ import annotations

import os

# Set before NumPy is imported: the matrix products of a command are few and small, and starting OpenBLAS's threads
# takes longer than computing them. The engine has threads of its own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
