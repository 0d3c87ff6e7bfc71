"""Hostile bytes for every parser of outside bytes: one table of targets, by Hypothesis in the tests and by a
coverage-guided fuzzer in ``make fuzz``; ``python -m tests.fuzz`` is its command line."""
