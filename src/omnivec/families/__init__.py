"""One file is one family of models; its name is the family's name. `registry` finds them without importing."""
