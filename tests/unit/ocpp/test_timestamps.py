"""RPC-15: timestamps out in one form, in every RFC 3339 form."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ocpp.timestamps import BadTimestamp, from_rfc3339, to_rfc3339

T0_MS = 1_795_508_130_250  # 2026-11-24T08:15:30.250Z


def test_rpc_15_written_in_utc_with_milliseconds() -> None:
    assert to_rfc3339(T0_MS) == "2026-11-24T08:15:30.250Z"
    assert to_rfc3339(0) == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-24T08:15:30.250Z",
        "2026-11-24T08:15:30.25Z",
        "2026-11-24t08:15:30.250z",
        "2026-11-24 08:15:30.250Z",
        "2026-11-24T08:15:30.250999Z",
        "2026-11-24T08:15:30.250000+00:00",
        "2026-11-24T10:15:30.250+02:00",
        "2026-11-24T02:45:30.250-05:30",
        "2026-11-24T08:15:30.250",
        "2026-11-24T10:15:30.250+0200",
    ],
)
def test_rpc_15_every_form_of_the_field_is_read(text: str) -> None:
    assert from_rfc3339(text) == T0_MS


def test_rpc_15_whole_seconds_and_leap_second() -> None:
    assert from_rfc3339("2026-11-24T08:15:30Z") == T0_MS - 250
    assert from_rfc3339("2016-12-31T23:59:60Z") == from_rfc3339("2017-01-01T00:00:00Z")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-11-24",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-11-24T24:00:00Z",
        "2026-11-24T08:15:30+99:00",
        "2026-11-24T08:15:30.Z",
        "٢٠٢٦-11-24T08:15:30Z",
        "2026-11-24T08:15:30Z\n",
        "0000-01-01T00:00:00Z",
    ],
)
def test_rpc_15_what_is_no_timestamp_is_refused(text: str) -> None:
    with pytest.raises(BadTimestamp):
        from_rfc3339(text)


@given(st.integers(min_value=-62_135_596_800_000, max_value=253_402_300_799_999))
def test_round_trip(wall_ms: int) -> None:
    text = to_rfc3339(wall_ms)
    assert len(text) == 24
    assert from_rfc3339(text) == wall_ms


@given(st.text(max_size=40))
def test_reading_never_raises_anything_else(text: str) -> None:
    with contextlib.suppress(BadTimestamp):
        from_rfc3339(text)
