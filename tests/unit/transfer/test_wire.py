"""Failures in words, limits that make sense, and what importing costs."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import subprocess
import sys
from http.client import BadStatusLine, RemoteDisconnected
from typing import Any

import pytest

from agent.transfer.settings import TransferLimits
from agent.transfer.wire import SLOWEST_BYTES, Wire, lost


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the name of the server is not found (Name or service"),
        (TimeoutError("timed out"), "the server is too slow or silent"),
        (ConnectionResetError(104, "Connection reset by peer"), "no connection (Connection reset by peer)"),
        (RemoteDisconnected("gone"), "no connection (closed by the server)"),
        (OSError(113, "No route to host"), "No route to host"),
        (ssl.SSLError(1, "[SSL: X] text"), "x: "),
        (BadStatusLine("secret"), "the answer cannot be understood (BadStatusLine)"),
        (EOFError(), "the server closed the connection"),
    ],
)
def test_failures_in_words(error: Exception, why: str) -> None:
    found = lost("x", error)
    assert why in str(found) and str(found).startswith("x: ")
    assert found.retryable and "None" not in str(found) and "secret" not in str(found)


@pytest.mark.wire
@pytest.mark.parametrize(
    ("pieces", "reads"),
    [
        ([SLOWEST_BYTES] * 30, 30),
        ([SLOWEST_BYTES // 10] * 30, 5),
        ([SLOWEST_BYTES] * 3 + [SLOWEST_BYTES // 10] * 30, 3 + 5),
    ],
)
def test_slow_is_allowed_too_slow_is_not(pieces: list[int], reads: int) -> None:
    """Every read takes one second of five; in virtual time."""
    now_ms = itertools.count(0, 1000)
    near, far = socket.socketpair()
    wire = Wire(near, 5.0, lambda: next(now_ms))
    done = 0
    with far, contextlib.closing(wire), contextlib.suppress(TimeoutError):
        for piece in pieces:
            far.sendall(bytes(piece))
            wire.was_useful(len(wire.read(piece) or b""))
            done += 1
    assert done == reads


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_size_bytes": 0},
        {"connect_timeout_s": 0},
        {"read_timeout_s": -1},
        {"max_bytes_per_s": -1},
        {"redirects_max": -1},
        {"resumes_max": -1},
    ],
)
def test_limits_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TransferLimits(**{"max_size_bytes": 1, **wrong})


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = "import sys, agent.transfer.remote; print({'ssl', 'http.client', 'ftplib', 'email'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
