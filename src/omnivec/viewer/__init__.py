"""Showing results: thumbnails, images in a terminal, and an HTML page of search results."""
