"""Refinement of cameras by feature matches between the photographs, judged on matches that were held out."""
