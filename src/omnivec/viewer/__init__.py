"""What people look at: thumbnails, pictures in a terminal, and a page of what a search found."""
