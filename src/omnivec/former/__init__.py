"""Modules under the paths that they had before."""
