"""What an embedder drives and what a user holds: networks, tables, towers, batching, loading, saving."""
