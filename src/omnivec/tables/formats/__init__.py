"""Published formats of word tables, one file each."""
