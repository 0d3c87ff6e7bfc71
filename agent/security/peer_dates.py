"""The dates of a server's certificate, where nothing vouches for the machine's clock.

Charter: one part of a TLS handshake. A clock without a battery and without a time server stays behind after a power
cut, and a good certificate that was made since would be "not yet valid" for ever: the CSMS, which could tell the time,
is behind it. So the first day of certificates is asked only where the clock is proven (``clock_proof``). Chain and name
are verified as ever, and so is the last day of the server's own certificate, before anything is said to the server. The
last days of the authorities above it are not: Python shows them from 3.13 on only.

Units: ms, UTC. Sources: OpenSSL X509_VERIFY_PARAM_set_flags(3); RFC 5280 section 4.1.2.5.
"""

from __future__ import annotations

import ssl
import time
from typing import Final

from agent.security.clock_proof import clock_is_proven

NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME, which ``ssl`` has no name for."""


def verify_dates(context: ssl.SSLContext, earliest_ms: int) -> None:
    """Have a client's ``context`` verify the dates that the machine's clock can judge now. ``earliest_ms``: no correct
    clock shows an earlier time."""
    now_ms = time.time_ns() // 1_000_000
    if now_ms >= earliest_ms and clock_is_proven(now_ms):
        return
    now_s = max(now_ms, earliest_ms) / 1_000

    class Peer(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            _refuse_expired(self, now_s)

    class PeerSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            _refuse_expired(self, now_s)

    context.verify_flags |= NO_CHECK_TIME
    context.sslobject_class, context.sslsocket_class = Peer, PeerSocket


def _refuse_expired(peer: ssl.SSLObject | ssl.SSLSocket, now_s: float) -> None:
    """Raises ``SSLCertVerificationError``, as OpenSSL's own verification does."""
    certificate = peer.getpeercert() or {}
    try:
        last_s = ssl.cert_time_to_seconds(str(certificate.get("notAfter")))
    except ValueError:  # no date at all
        last_s = 0
    if last_s < now_s:
        expired = ssl.SSLCertVerificationError("certificate has expired")
        expired.reason, expired.verify_message = "CERTIFICATE_VERIFY_FAILED", "certificate has expired"
        raise expired
