"""Waiting for what a browser or a server does in its own time."""

import time


def wait_for(found, seconds=120.0):
    """Return the first true value of ``found()``; fail when the seconds are over."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return value
