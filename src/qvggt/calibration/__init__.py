"""Calibration: the model unit by unit, activation statistics, the task objective, and sensitivities."""
