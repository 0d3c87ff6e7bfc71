"""How often somebody may try to log in: waits that grow, for each address and for all together.

Charter: pure; times come from the caller (monotonic seconds). Rules:

* An address that failed ``_FREE`` times waits 2 s, then twice as long each time, ``_WAIT_MAX_S`` at most. A good
  login or ``_FORGET_S`` of quiet make it new again. IPv6 addresses count by their /64, which one customer has whole.
* All addresses together have ``_ALL_MAX`` failures in ``_ALL_S``; then everybody waits until the oldest is so old.
* At most ``_ADDRESSES_MAX`` addresses are remembered; the one that failed longest ago is forgotten first.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from dataclasses import dataclass

_FREE = 3
_FIRST_WAIT_S = 2.0
_WAIT_MAX_S = 300.0
_FORGET_S = 1_800.0
_ADDRESSES_MAX = 256
_ALL_MAX = 20
_ALL_S = 60.0


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int
    last_s: float

    @property
    def wait_s(self) -> float:
        over = self.count - _FREE
        return 0.0 if over < 0 else min(_FIRST_WAIT_S * 2.0 ** min(over, 16), _WAIT_MAX_S)


class Attempts:
    """The failures that are remembered."""

    def __init__(self) -> None:
        self._of: dict[str, _Failures] = {}  # in the order of their last failure
        self._all: deque[float] = deque(maxlen=_ALL_MAX)

    def wait_s(self, address: str, now_s: float) -> float:
        """How long this address has to wait before it may try; 0: it may."""
        failures = self._of.get(_group(address))
        own_s = 0.0
        if failures is not None and now_s - failures.last_s < _FORGET_S:
            own_s = failures.last_s + failures.wait_s - now_s
        all_s = self._all[0] + _ALL_S - now_s if len(self._all) == _ALL_MAX else 0.0
        return max(0.0, own_s, all_s)

    def failed(self, address: str, now_s: float) -> None:
        group = _group(address)
        before = self._of.pop(group, None)
        fresh = before is not None and now_s - before.last_s < _FORGET_S
        self._of[group] = _Failures(before.count + 1 if before is not None and fresh else 1, now_s)
        if len(self._of) > _ADDRESSES_MAX:
            del self._of[next(iter(self._of))]
        self._all.append(now_s)

    def succeeded(self, address: str) -> None:
        self._of.pop(_group(address), None)


def _group(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped is not None else str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
