"""Procedural rooms with exact cameras, depth and points."""
