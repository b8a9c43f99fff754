"""Embedders and the encoders behind them: networks, tables, towers, batching, loading, saving."""
