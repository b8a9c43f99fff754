"""The command line: parse, one call of the library, print. One file is one command."""
