"""Running a float model unit by unit, and what is measured on the way."""
