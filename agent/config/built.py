"""When this software was made.

Charter: one constant, moved on with every release. No correct clock shows an earlier time.
"""

from __future__ import annotations

from typing import Final

BUILD_TIME_MS: Final = 1_793_491_200_000
"""2026-11-01."""
