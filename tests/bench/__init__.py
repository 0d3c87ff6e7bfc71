"""Measurements of the real processes on simulated hardware; ``python -m tests.bench``. No tests here."""
