"""Loops over integers and floats, compiled by Numba for this CPU: scanning text, training tables of vectors.

The only place that imports numba, which the extra [words] brings; who calls a kernel imports it late.
"""
