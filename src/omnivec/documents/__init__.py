"""From files to passages: walk lists them, read and html read them, cut cuts them; pydoc has Python's own."""
