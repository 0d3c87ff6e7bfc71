"""An installation by RAUC, followed to its end: good, refused, crashed, silent, lying."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.firmware.engines.rauc import RaucBundle, RaucEngine, RaucInstalled
from agent.firmware.engines.rauc_bus import RaucBus
from agent.firmware.errors import Refusal, SlotFailed, UpdateRefused
from agent.firmware.ports import Progress
from tests.support.rauc_peer import (
    BUSY,
    RECORDED_BEGIN,
    RECORDED_REFUSAL,
    RECORDED_SUCCESS,
    Crash,
    Fail,
    FallMute,
    Finish,
    ForgetToComplete,
    RaucPeer,
    Tell,
)

pytestmark = pytest.mark.wire

SIZE_BYTES = 1000
SILENCE_S = 0.1


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "update.raucb"
    path.write_bytes(bytes(SIZE_BYTES))
    return path


def engine(
    peer: RaucPeer, *, call_limit_s: float = 20.0, monotonic: Callable[[], float] = time.monotonic
) -> RaucEngine:
    bus = RaucBus(peer.address, call_limit_s=call_limit_s)
    return RaucEngine(bus, silence_s=SILENCE_S, limit_s=100.0, monotonic=monotonic)


def test_a_good_end(peer: RaucPeer, bundle: Path) -> None:
    told: list[Progress] = []
    assert engine(peer).install(bundle, told.append) == RaucInstalled("rootfs.1", "")
    assert ("InstallBundle", (str(bundle), {})) in peer.calls
    assert [each.done_bytes for each in told][-1] == SIZE_BYTES
    assert_rising(told)


def assert_rising(told: list[Progress]) -> None:
    done = [each.done_bytes for each in told]
    assert done == sorted(set(done))
    for each in told:
        assert 0 <= each.done_bytes <= each.total_bytes == SIZE_BYTES
        assert (each.fetched_bytes, each.written_bytes) == (0, each.done_bytes)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=12), st.booleans())
def test_whatever_percentage_is_told_progress_rises_to_the_end(
    peer: RaucPeer, bundle: Path, percents: list[int], well: bool
) -> None:
    end = Finish() if well else Fail("Failed")
    peer.script = (*(Tell(percent, "?", 1) for percent in percents), end)
    told: list[Progress] = []
    if well:
        engine(peer).install(bundle, told.append)
    else:
        with pytest.raises(SlotFailed):
            engine(peer).install(bundle, told.append)
    assert_rising(told)
    assert any(each.done_bytes == SIZE_BYTES for each in told) is well


def test_a_refused_bundle_never_looks_whole(peer: RaucPeer, bundle: Path) -> None:
    """RAUC says 100 percent at a bad end, too."""
    peer.script = RECORDED_REFUSAL
    told: list[Progress] = []
    with pytest.raises(UpdateRefused, match="Verify error: self-signed certificate") as refused:
        engine(peer).install(bundle, told.append)
    assert refused.value.refusal is Refusal.CERTIFICATE
    assert told[-1].done_bytes < SIZE_BYTES


def test_an_unknown_failure_is_told_in_raucs_words(peer: RaucPeer, bundle: Path) -> None:
    peer.script = (Fail("Failed in a way of the future"),)
    with pytest.raises(SlotFailed, match="Failed in a way of the future"):
        engine(peer).install(bundle, lambda _: None)


@pytest.mark.parametrize("method", ["InstallBundle", "GetSlotStatus"])
def test_a_busy_service(peer: RaucPeer, bundle: Path, method: str) -> None:
    peer.errors[method] = BUSY
    with pytest.raises(UpdateRefused, match="try again later") as refused:
        engine(peer).install(bundle, lambda _: None)
    assert refused.value.refusal is Refusal.BUSY


def test_the_end_of_somebody_elses_installation_is_not_ours(peer: RaucPeer, bundle: Path) -> None:
    peer.stray = (Fail("not ours"),)
    assert engine(peer).install(bundle, lambda _: None).slot == "rootfs.1"


def test_a_crash_in_mid_install(peer: RaucPeer, bundle: Path) -> None:
    peer.script = (*RECORDED_BEGIN, Crash())
    with pytest.raises(SlotFailed, match="the service ended while it installed"):
        engine(peer).install(bundle, lambda _: None)


def test_a_service_that_hangs(peer: RaucPeer, bundle: Path) -> None:
    peer.script = (*RECORDED_BEGIN, FallMute())
    with pytest.raises(SlotFailed, match="no answer to GetPrimary"):
        engine(peer, call_limit_s=0.5).install(bundle, lambda _: None)


def test_an_end_that_is_not_told(peer: RaucPeer, bundle: Path) -> None:
    peer.script = (*RECORDED_BEGIN, ForgetToComplete())
    with pytest.raises(SlotFailed, match="did not say how it ended"):
        engine(peer).install(bundle, lambda _: None)


def test_a_long_silence_at_work_is_borne_to_the_limit(peer: RaucPeer, bundle: Path) -> None:
    """RAUC 1.8 says nothing while it copies the image."""
    peer.script = RECORDED_BEGIN

    def clock() -> Iterator[float]:
        yield from (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)  # the beginning and what RAUC tells
        yield from count(40.0, 25.0)

    ticks = clock()
    with pytest.raises(SlotFailed, match="still installing after 100 s, and it cannot be told to stop"):
        engine(peer, monotonic=lambda: next(ticks)).install(bundle, lambda _: None)
    assert len([method for method, _ in peer.calls if method == "GetPrimary"]) >= 2


class Cancelled(Exception):
    pass


@pytest.mark.parametrize("script", [RECORDED_SUCCESS, RECORDED_REFUSAL])
def test_cancelling_waits_until_rauc_is_done(peer: RaucPeer, bundle: Path, script: tuple[Tell, ...]) -> None:
    told: list[Progress] = []

    def cancel(progress: Progress) -> None:
        told.append(progress)
        raise Cancelled

    peer.script = script
    with pytest.raises(Cancelled):
        engine(peer).install(bundle, cancel)
    assert len(told) == 1
    assert not peer.busy


def test_a_rauc_that_activates_by_itself_is_reported(peer: RaucPeer, bundle: Path) -> None:
    peer.script = (Finish(activates=True),)
    installed = engine(peer).install(bundle, lambda _: None)
    assert installed.slot == "rootfs.1"
    assert "set activate-installed=false" in installed.warning


def test_an_unchanged_record_of_slots_is_no_success(peer: RaucPeer, bundle: Path) -> None:
    """Without RAUC's status file nobody could say later what is in a slot, or that it is on trial."""
    peer.script = (Finish(records=False),)
    with pytest.raises(SlotFailed, match=r"into 0 bootable slots.*statusfile="):
        engine(peer).install(bundle, lambda _: None)


def test_no_slot_left_to_boot_is_no_failure_of_the_installation(peer: RaucPeer, bundle: Path) -> None:
    peer.errors["GetPrimary"] = "Failed getting primary slot: Unable to find primary boot slot"
    assert engine(peer).install(bundle, lambda _: None) == RaucInstalled("rootfs.1", "")


def test_a_boot_loader_that_cannot_be_asked_is_a_failure(peer: RaucPeer, bundle: Path) -> None:
    peer.errors["GetPrimary"] = "Failed getting primary slot: Failed to start fw_printenv"
    with pytest.raises(SlotFailed, match="fw_printenv"):
        engine(peer).install(bundle, lambda _: None)


def test_a_bundle_that_is_not_there(peer: RaucPeer, tmp_path: Path) -> None:
    with pytest.raises(SlotFailed, match="No such file"):
        engine(peer).install(tmp_path / "none.raucb", lambda _: None)
    assert peer.calls == []


def test_inspecting(peer: RaucPeer, bundle: Path) -> None:
    assert engine(peer).inspect(bundle) == RaucBundle("evsed-test", "2.0")
    peer.errors["Info"] = "signature verification failed: Verify error: certificate has expired"
    with pytest.raises(UpdateRefused) as refused:
        engine(peer).inspect(bundle)
    assert refused.value.refusal is Refusal.CERTIFICATE
    peer.errors["Info"] = "rauc info error"  # all that 1.8 says
    assert engine(peer).inspect(bundle) is None
