"""What is computed from a finished prediction, without a model: alignment, scale, quality, refinement."""
