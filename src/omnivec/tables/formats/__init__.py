"""Readers and writers of published table formats, one module per family of formats."""
