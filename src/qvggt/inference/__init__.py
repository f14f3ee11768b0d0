"""One scene through a model: prediction, windows and memory."""
