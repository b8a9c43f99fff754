"""Loops that Numba compiles for this CPU: scanning text and training tables of vectors.

Only this package imports numba, which the extra [words] installs; callers import a kernel where they use it.
"""
