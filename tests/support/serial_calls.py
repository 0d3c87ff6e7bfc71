"""Which methods of serial ports are called, and in which order: what a pty cannot show."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import serial


def note_calls(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[str]:
    """The names of these methods of ``serial.Serial``, as they are called from now on."""
    done: list[str] = []

    def noted(name: str, method: Callable[[serial.Serial], None]) -> Callable[[serial.Serial], None]:
        def call(port: serial.Serial) -> None:
            done.append(name)
            method(port)

        return call

    for name in names:
        monkeypatch.setattr(serial.Serial, name, noted(name, getattr(serial.Serial, name)))
    return done
