"""Tables of vectors by key: files, subwords, pooling and the kernels that train them."""
