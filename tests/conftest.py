"""Settings of all tests: no clock decides whether a property holds."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

settings.register_profile("evsed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("evsed")

# Whoever runs the tests in the background may have made us deaf to Ctrl-C, and with us every process of theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that a test calls sets up logs for its process: not for the tests that follow."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
