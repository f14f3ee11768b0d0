"""What this machine has, what is installed on it, and what a model needs there; ``qvggt.doctor`` puts it together."""
