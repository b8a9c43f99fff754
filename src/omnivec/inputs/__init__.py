"""What can be given to a model: one folder for each modality, and files that are walked, read and cut."""
