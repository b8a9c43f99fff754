"""Benchmarks of word vectors: each file reads the questions of one and scores a table of vectors."""
