"""Settings of all tests: no clock decides whether a property holds."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("evsed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("evsed")
