"""The meaning of OpenEVSE states as tables, and convergence as a property."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.pilots import openevse_rules as rules
from hal.pilots.openevse_rules import Mode, Status, Wanted
from hal.ports import BoardFault, CpState
from hal.sim.vehicle_port import VehiclePort, vehicle_current_ma

HARD_FAULT, CHARGING, CONNECTED, BOOT_LOCK = 0x0002, 0x0040, 0x0100, 0x4000
NONE: frozenset[BoardFault] = frozenset()


@pytest.mark.parametrize(
    ("status", "cp", "closed"),
    [
        (Status(0x00, 0x03, CONNECTED), None, False),
        (Status(0x01, 0x01, 0), CpState.A, False),
        (Status(0x02, 0x02, CONNECTED), CpState.B, False),
        (Status(0x02, 0x03, CONNECTED), CpState.B, False),
        (Status(0x03, 0x03, CONNECTED | CHARGING), CpState.C, True),
        (Status(0x03, 0x03, CONNECTED), CpState.C, False),
        (Status(0x04, 0x04, CONNECTED), CpState.D, False),
        # Asleep the raw pilot is stale: only the connected flag is true.
        (Status(0xFE, 0x03, CONNECTED), CpState.B, False),
        (Status(0xFE, 0x03, CONNECTED | CHARGING), CpState.C, True),
        (Status(0xFE, 0x03, 0), CpState.A, False),
        (Status(0xFF, 0x03, CONNECTED), CpState.F, False),
        (Status(0x06, 0x03, CONNECTED), CpState.C, False),
        (Status(0x05, 0x05, CONNECTED), CpState.B, False),
        (Status(0x06, 0x03, 0), CpState.A, False),
        (Status(0x08, 0x01, 0), CpState.A, True),  # a welded contact is a closed one
        (Status(0xFE, 0x00, BOOT_LOCK), None, False),  # nobody has looked yet whether a vehicle is there
        (Status(0xFF, 0x00, BOOT_LOCK), None, False),
    ],
)
def test_pilot_and_contactor(status: Status, cp: CpState | None, closed: bool) -> None:
    assert rules.cp_state(status) is cp
    assert rules.contactor_closed(status) is closed


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        (0x04, BoardFault.NO_VENTILATION),
        (0x05, BoardFault.DIODE),
        (0x06, BoardFault.RESIDUAL_CURRENT),
        (0x07, BoardFault.NO_GROUND),
        (0x08, BoardFault.CONTACTOR_WELDED),
        (0x09, BoardFault.RESIDUAL_SELF_TEST),
        (0x0A, BoardFault.OVER_TEMPERATURE),
        (0x0B, BoardFault.OVER_CURRENT),
        (0x0E, BoardFault.CONTACTOR_OPEN),
        (0x0F, BoardFault.PROXIMITY),
        (0x10, BoardFault.PROXIMITY),
        (0x0C, BoardFault.PILOT),  # a state this driver does not know is not taken for health
        (0x77, BoardFault.PILOT),
    ],
)
def test_fault_states(state: int, fault: BoardFault) -> None:
    assert rules.faults(Status(state), NONE) == {fault}


@pytest.mark.parametrize("state", [0x00, 0x01, 0x02, 0x03, 0xFE, 0xFF])
def test_healthy_states(state: int) -> None:
    assert rules.faults(Status(state), NONE) == NONE


@pytest.mark.parametrize("state", [0x00, 0x02, 0xFE, 0xFF])
def test_a_hard_fault_stands_until_the_board_forgets_it_also_one_that_nobody_saw(state: int) -> None:
    """World 3510001: a board made safe in its fault offered nothing, and who was plugged in paid for idling."""
    before = frozenset({BoardFault.OVER_CURRENT})
    assert rules.faults(Status(state, vflags=HARD_FAULT), before) == before
    assert rules.faults(Status(state, vflags=HARD_FAULT), NONE) == {BoardFault.PILOT}
    assert rules.faults(Status(state), before) == NONE


def test_a_stuck_relay_stands_until_it_is_checked_again() -> None:
    before = frozenset({BoardFault.CONTACTOR_WELDED})
    for state in (0x00, 0xFE, 0xFF):
        assert rules.faults(Status(state), before) == before
    assert rules.faults(Status(0x01), before) == NONE


def test_switched_off_checks_have_names() -> None:
    assert rules.checks_off(0x0001 | 0x0020) == ()
    assert rules.checks_off(0x0008 | 0x0010) == ("ground", "stuck relay")


@pytest.mark.parametrize(
    ("wanted", "status", "command"),
    [
        (Wanted(Mode.STOP), Status(0x03, current_a=16), "FS"),
        (Wanted(Mode.STOP), Status(0x00), "FS"),
        (Wanted(Mode.STOP), Status(0xFF), "FS"),
        (Wanted(Mode.STOP), Status(0xFE), None),
        (Wanted(Mode.STOP), Status(0x04), None),
        (Wanted(Mode.STOP), Status(0x06), None),  # the relay is open; FS would hide the fault
        (Wanted(Mode.DISABLE), Status(0x06), None),  # and so would FD
        (Wanted(Mode.DISABLE), Status(0x07), None),
        (Wanted(Mode.DISABLE), Status(0x07, vflags=CHARGING), "FD"),
        (Wanted(Mode.DISABLE), Status(0x08), "FD"),  # a stuck relay
        (Wanted(Mode.DISABLE), Status(0x02), "FD"),  # the fault is over
        (Wanted(Mode.DISABLE), Status(0xFE), "FD"),
        (Wanted(Mode.DISABLE), Status(0xFF), None),
        (Wanted(Mode.OFFER, 10), Status(0xFE, current_a=16), "SC 10 V"),
        (Wanted(Mode.OFFER, 10), Status(0xFE, current_a=None), "SC 10 V"),
        (Wanted(Mode.OFFER, 10), Status(0xFE, current_a=10), "FE"),
        (Wanted(Mode.OFFER, 10), Status(0xFF, current_a=10), "FE"),
        (Wanted(Mode.OFFER, 10), Status(0x03, current_a=16), "SC 10 V"),
        (Wanted(Mode.OFFER, 10), Status(0x03, current_a=10), None),
        (Wanted(Mode.OFFER, 10), Status(0x06, current_a=10), None),
        (Wanted(Mode.STOP), Status(0x00, vflags=BOOT_LOCK), "FS"),  # asleep before it is unlocked
        (Wanted(Mode.STOP), Status(0xFE, vflags=BOOT_LOCK), "SB"),
        (Wanted(Mode.DISABLE), Status(0xFE, vflags=BOOT_LOCK), "FD"),
        (Wanted(Mode.DISABLE), Status(0xFF, vflags=BOOT_LOCK), "SB"),
        (Wanted(Mode.OFFER, 10), Status(0x00, vflags=BOOT_LOCK, current_a=16), "FS"),
        (Wanted(Mode.OFFER, 10), Status(0xFE, vflags=BOOT_LOCK, current_a=10), "SB"),
        (Wanted(Mode.OFFER, 10), Status(0xFF, vflags=BOOT_LOCK, current_a=10), "SB"),
        (Wanted(Mode.OFFER, 10), Status(0x09, vflags=BOOT_LOCK, current_a=16), None),  # it would say OK 1
        (Wanted(Mode.STOP), Status(0x09, vflags=BOOT_LOCK), None),
    ],
)
def test_next_command(wanted: Wanted, status: Status, command: str | None) -> None:
    assert rules.next_command(wanted, status) == command


def test_a_board_that_refuses_to_lower_is_not_enabled() -> None:
    wanted = Wanted(Mode.OFFER, 10)
    assert rules.next_command(wanted, Status(0xFE, current_a=16), frozenset({"SC 10 V"})) is None
    assert rules.next_command(wanted, Status(0xFE, current_a=None), frozenset({"SC 10 V"})) is None
    # It may well be enabled with less than wanted (over-temperature).
    assert rules.next_command(wanted, Status(0xFE, current_a=8), frozenset({"SC 10 V"})) == "FE"


_STATES = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xA, 0xB, 0xE, 0xFE, 0xFF])
_LOCKED = st.sampled_from([0, BOOT_LOCK])
_WANTED = st.builds(Wanted, st.just(Mode.OFFER), st.integers(6, 80)) | st.sampled_from(
    [Wanted(Mode.STOP), Wanted(Mode.DISABLE)]
)


@given(_WANTED, _STATES, _LOCKED, st.none() | st.integers(6, 80))
def test_an_obedient_board_converges_and_never_offers_too_much(
    wanted: Wanted, state: int, locked: int, current_a: int | None
) -> None:
    status, tried = Status(state, vflags=locked, current_a=current_a), frozenset[str]()
    for _ in range(5):
        command = rules.next_command(wanted, status, tried)
        if command is None:
            break
        tried |= {command}
        if command.startswith("SC"):
            status = replace(status, current_a=int(command.split()[1]))
        elif command == "SB":
            assert status.state in (0xFE, 0xFF)
            status = replace(status, vflags=0)
        else:
            status = replace(status, state={"FE": 0x02, "FS": 0xFE, "FD": 0xFF}[command])
        if command == "FE":
            assert not status.vflags
            assert status.current_a is not None and status.current_a <= wanted.current_a
    assert rules.next_command(wanted, status) is None


# ------------------------------------------------------------------- the simulators' vehicle port


@pytest.mark.parametrize(
    ("duty", "current_ma"),
    [
        (0, 0), (300, 0), (500, 0), (799, 0), (800, 6_000), (999, 6_000), (1000, 6_000), (1667, 10_002),
        (2667, 16_002), (5333, 31_998), (8500, 51_000), (8600, 55_000), (9600, 80_000), (9700, 80_000),
        (9701, 0), (10_000, 0),
    ],
)  # fmt: skip
def test_what_a_vehicle_may_draw(duty: int, current_ma: int) -> None:
    assert vehicle_current_ma(duty) == current_ma


def test_the_vehicle_hears_of_changes_only() -> None:
    port, heard = VehiclePort(), list[tuple[int, bool]]()
    port.on_change = lambda: heard.append((port.duty_centipercent, port.relay_closed))
    port.show(10_000, False)
    port.show(5_000, False)
    port.show(5_000, True)
    port.show(5_000, True)
    assert heard == [(5_000, False), (5_000, True)]


def test_a_vehicle_cannot_make_state_f() -> None:
    with pytest.raises(ValueError, match="state F"):
        VehiclePort().set_cp(CpState.F)


@pytest.mark.parametrize(
    ("status", "needs"),
    [
        (Status(0xFE, vflags=HARD_FAULT), True),
        (Status(0xFF, vflags=HARD_FAULT), True),
        (Status(0xFE, vflags=HARD_FAULT | CONNECTED), False),
        (Status(0xFE), False),
        (Status(0x07), False),  # awake it looks again by itself
        (Status(0x07, vflags=BOOT_LOCK), True),
        (Status(0x09, vflags=BOOT_LOCK | CONNECTED), True),  # which it does not know while locked
        (Status(0x00, vflags=BOOT_LOCK), False),
        (Status(0xFE, vflags=BOOT_LOCK), False),
    ],
)
def test_what_only_a_reset_ends(status: Status, needs: bool) -> None:
    assert rules.needs_reset(status) is needs
