"""Bad manners are bad: malformed answers break their schema, odd times are still times, every manner is drawn."""

from __future__ import annotations

import random

import pytest

from agent.ocpp import schema
from agent.ocpp.frames import Malformed, Result, parse
from agent.ocpp.timestamps import BadTimestamp, from_rfc3339
from agent.ocpp.version import Version
from agent.sim.world import manners as bad
from agent.sim.world.desk import frame_text
from agent.sim.world.manners import Manner, Manners, Rates
from tests.support.fake_station import T0_MS

V16, V201 = Version.V16, Version.V201


def test_timestamps_come_in_every_form_and_nonsense_when_asked() -> None:
    rng = random.Random(1)
    odd = [bad.timestamp(T0_MS, Manners(odd_timestamps=1.0), rng) for _ in range(100)]
    assert len(dict.fromkeys(odd)) == 6
    assert {from_rfc3339(text) for text in odd} == {T0_MS}
    nonsense = [bad.timestamp(T0_MS, Manners(nonsense_time=1.0), rng) for _ in range(100)]
    assert len(dict.fromkeys(nonsense)) == 7
    for text in nonsense:
        try:
            assert from_rfc3339(text) != T0_MS
        except BadTimestamp:
            assert text in ("now", "")


@pytest.mark.parametrize(
    ("version", "action", "answer"),
    [
        (V16, "BootNotification", {"status": "Accepted", "currentTime": "2026-11-24T08:00:00Z", "interval": 60}),
        (V16, "StartTransaction", {"transactionId": 0, "idTagInfo": {"status": "Accepted"}}),
        (V16, "MeterValues", {}),
        (V201, "TransactionEvent", {"idTokenInfo": {"status": "Accepted"}}),
        (V201, "Heartbeat", {"currentTime": "2026-11-24T08:00:00Z"}),
    ],
)
def test_a_malformed_answer_is_malformed(version: Version, action: str, answer: dict[str, object]) -> None:
    """Else it would be counted as a refusal that the station never saw."""
    schema.check_response(version, action, answer)
    for seed in range(50):
        spoiled = bad.spoil(answer, random.Random(seed))
        frame = parse(frame_text([3, "a", spoiled]), version)
        assert isinstance(frame, Malformed if not isinstance(spoiled, dict) else Result)
        with pytest.raises(schema.SchemaViolation):
            schema.check_response(version, action, spoiled)


def test_rates_draw_every_manner() -> None:
    assert Rates(error=1.0).draw(random.Random(1)) is Manner.ERROR
    drawn = [Rates(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1).draw(random.Random(seed)) for seed in range(200)]
    assert set(drawn) == set(Manner)
