"""Scenes with known geometry: readers of public datasets, and rooms that are rendered."""
