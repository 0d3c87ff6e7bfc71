"""The ``evsed`` command."""
