"""Benchmarks: one small file for each, which reads its questions and scores a table of vectors."""
