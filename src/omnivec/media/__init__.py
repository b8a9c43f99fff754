"""One file is one modality: what it accepts, how an item is decoded, what it costs."""
