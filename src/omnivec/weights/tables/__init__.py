"""Published tables of keys and vectors: word2vec, GloVe, fastText, gensim, model2vec, Parquet and our own."""
