"""Training of the small VGGT models that qvggt carries with it."""
