"""Tables of vectors by key: file formats, subwords, pooling, and the compiled kernels that train and apply them."""
