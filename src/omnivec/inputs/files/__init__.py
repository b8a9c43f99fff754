"""Files and folders to text to passages."""
