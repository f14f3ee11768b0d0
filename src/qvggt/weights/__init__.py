"""Float weights from a hub id, a file, a folder, the carried model, or a seed."""
