"""Which slot boots, asked and told over D-Bus: what a trial is although RAUC does not know it, and what is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.firmware.engines.rauc_bus import RaucBus
from agent.firmware.engines.rauc_selector import RaucSelector
from agent.firmware.errors import SlotFailed
from agent.firmware.ports import BootSelector, BootState, SlotState
from tests.support.power_disk import Fate, PowerCut, PowerDisk
from tests.support.rauc_peer import BUSY, RaucPeer

pytestmark = pytest.mark.wire

RECORD = Path("/state/rauc.json")
A, B = "rootfs.0", "rootfs.1"


@pytest.fixture
def disk() -> PowerDisk:
    return empty_disk()


def empty_disk() -> PowerDisk:
    disk = PowerDisk()
    disk.make_folder(RECORD.parent)
    return disk


def selector(peer: RaucPeer, disk: PowerDisk) -> BootSelector:
    return RaucSelector(RaucBus(peer.address), ("a", "b"), disk, RECORD)


def on_trial(peer: RaucPeer, disk: PowerDisk) -> BootSelector:
    """B was installed and activated, and runs now for the first time. Its boot loader has tries left for it."""
    chooser = selector(peer, disk)
    chooser.block("b")
    chooser.activate("b", 3)
    peer.boots(B)
    return chooser


def test_a_device_from_the_factory(peer: RaucPeer, disk: PowerDisk) -> None:
    a, b = SlotState("a", True, True, None), SlotState("b", True, True, None)
    assert selector(peer, disk).state() == BootState("a", "a", False, (a, b))
    assert selector(peer, disk).reboot_argument is None


def test_bootnames_in_their_order_are_our_slots(peer: RaucPeer, disk: PowerDisk) -> None:
    peer.set(A, bootname="system1")
    peer.set(B, bootname="system0")
    state = selector(peer, disk).state()
    assert (state.booted, state.primary) == ("b", "b")


def test_slots_of_other_classes_and_without_bootname_do_not_count(peer: RaucPeer, disk: PowerDisk) -> None:
    peer.slots["rescue.0"] = {**peer.slots[B], "bootname": ("s", "R"), "class": ("s", "rescue")}
    peer.slots["appfs.0"] = {"class": ("s", "appfs"), "state": ("s", "active")}
    assert [each.slot for each in selector(peer, disk).state().slots] == ["a", "b"]
    peer.primary = "rescue.0"
    assert selector(peer, disk).state().primary is None


@pytest.mark.parametrize("change", ["one", "three"])
def test_two_slots_are_needed(peer: RaucPeer, disk: PowerDisk, change: str) -> None:
    if change == "one":
        del peer.slots[B]
    else:
        peer.slots["rootfs.2"] = {**peer.slots[B], "bootname": ("s", "C")}
    with pytest.raises(SlotFailed, match=r"rootfs\.0.*two are needed"):
        selector(peer, disk).state()


def test_the_life_of_an_update(peer: RaucPeer, disk: PowerDisk) -> None:
    chooser = selector(peer, disk)
    chooser.block("b")
    blocked = chooser.state()
    assert (blocked.primary, blocked.of("b").bootable, blocked.of("b").good) == ("a", False, False)
    chooser.activate("b", 3)
    pending = chooser.state()
    assert (pending.booted, pending.primary, pending.on_trial) == ("a", "b", False)
    assert (pending.of("b").bootable, pending.of("b").good) == (True, False)
    peer.boots(B)
    trial = chooser.state()
    assert (trial.booted, trial.on_trial, trial.of("b").good) == ("b", True, False)
    chooser.confirm("b")
    good = chooser.state()
    assert (good.booted, good.primary, good.on_trial, good.of("b").good) == ("b", "b", False, True)
    assert peer.marks() == [("bad", B), ("active", B), ("good", "booted")]


def test_a_second_update_is_a_trial_again(peer: RaucPeer, disk: PowerDisk) -> None:
    chooser = on_trial(peer, disk)
    chooser.confirm("b")
    chooser.block("a")
    chooser.activate("a", 3)
    peer.boots(A)
    assert chooser.state().on_trial
    chooser.confirm("a")
    assert not chooser.state().on_trial
    chooser.block("b")
    chooser.activate("b", 3)
    peer.boots(B)
    assert chooser.state().on_trial


def test_a_trial_that_somebody_else_began_is_one(peer: RaucPeer, disk: PowerDisk) -> None:
    """RAUC's own command line, or a RAUC that activates by itself."""
    peer._mark("active", B)
    peer.boots(B)
    assert selector(peer, disk).state().on_trial


def test_confirming_is_repeatable(peer: RaucPeer, disk: PowerDisk) -> None:
    chooser = on_trial(peer, disk)
    chooser.confirm("b")
    steps = disk.steps
    chooser.confirm("b")
    assert disk.steps == steps
    assert not chooser.state().on_trial


def test_a_fallback_is_no_trial(peer: RaucPeer, disk: PowerDisk) -> None:
    chooser = on_trial(peer, disk)
    peer._mark("bad", B)  # no tries left
    peer.boots(A)
    state = chooser.state()
    assert (state.booted, state.primary, state.on_trial) == ("a", "a", False)
    assert not state.of("b").bootable


def test_going_back(peer: RaucPeer, disk: PowerDisk) -> None:
    chooser = on_trial(peer, disk)
    chooser.revert("a")
    assert peer.primary == A
    assert not chooser.state().of("b").bootable
    peer.boots(A)
    state = chooser.state()
    assert (state.primary, state.on_trial, state.of("a").good) == ("a", False, True)


def test_going_back_before_the_trial_began(peer: RaucPeer, disk: PowerDisk) -> None:
    chooser = selector(peer, disk)
    chooser.activate("b", 3)
    chooser.revert("a")
    state = chooser.state()
    assert (state.primary, state.on_trial, state.of("b").bootable) == ("a", False, False)


def test_going_back_with_a_boot_loader_that_has_a_next_boot_besides(peer: RaucPeer, disk: PowerDisk) -> None:
    peer.boot_next = True
    chooser = on_trial(peer, disk)
    chooser.revert("a")
    assert peer.marks()[-2:] == [("bad", B), ("active", A)]
    peer.boots(A)
    state = chooser.state()
    assert (state.primary, state.on_trial, state.of("b").bootable) == ("a", False, False)


def test_a_next_boot_that_cannot_be_changed_is_found_out(peer: RaucPeer, disk: PowerDisk) -> None:
    chooser = on_trial(peer, disk)
    peer.obeys = False
    with pytest.raises(SlotFailed, match="does not say so"):
        chooser.revert("a")


def test_going_back_between_two_good_slots_spoils_none(peer: RaucPeer, disk: PowerDisk) -> None:
    chooser = selector(peer, disk)
    chooser.revert("a")
    assert chooser.state().of("b").bootable


# ---------------------------------------------------------------------------------------------------- refused


Change = Callable[[BootSelector], None]
CHANGES: dict[str, Change] = {
    "block": lambda chooser: chooser.block("b"),
    "activate": lambda chooser: chooser.activate("b", 3),
    "confirm": lambda chooser: chooser.confirm("a"),
    "revert": lambda chooser: chooser.revert("a"),
}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda chooser: chooser.block("a"), "runs from it"),
        (lambda chooser: chooser.activate("a", 3), "runs from it"),
        (lambda chooser: chooser.confirm("b"), "only the booted slot"),
        (lambda chooser: chooser.block("c"), "only a and b"),
    ],
    ids=["block booted", "activate booted", "confirm other", "unknown slot"],
)
def test_what_may_not_be(peer: RaucPeer, disk: PowerDisk, change: Change, why: str) -> None:
    with pytest.raises(SlotFailed, match=why):
        change(selector(peer, disk))
    assert peer.marks() == []


@pytest.mark.parametrize("name", ["block", "activate"])
def test_nothing_is_risked_while_the_slot_that_stays_is_on_trial(peer: RaucPeer, disk: PowerDisk, name: str) -> None:
    chooser = on_trial(peer, disk)
    before = peer.marks()
    with pytest.raises(SlotFailed, match="b, is not marked good"):
        chooser.block("a") if name == "block" else chooser.activate("a", 3)
    assert peer.marks() == before


@pytest.mark.parametrize("name", ["block", "activate"])
def test_nothing_is_risked_while_nobody_knows_what_runs(peer: RaucPeer, disk: PowerDisk, name: str) -> None:
    """RAUC's _external_ boot: every slot is inactive."""
    peer.set(A, state="inactive")
    with pytest.raises(SlotFailed, match=r"rauc\.slot="):
        CHANGES[name](selector(peer, disk))
    assert peer.marks() == []


def test_going_back_to_a_slot_that_is_not_good(peer: RaucPeer, disk: PowerDisk) -> None:
    chooser = selector(peer, disk)
    chooser.block("b")
    with pytest.raises(SlotFailed, match="not marked good"):
        chooser.revert("b")


@pytest.mark.parametrize("name", ["block", "activate"])
def test_a_boot_loader_that_does_not_obey_is_found_out(peer: RaucPeer, disk: PowerDisk, name: str) -> None:
    peer.obeys = False
    with pytest.raises(SlotFailed, match="RAUC"):
        CHANGES[name](selector(peer, disk))


def test_a_mark_good_without_effect_is_found_out(peer: RaucPeer, disk: PowerDisk) -> None:
    peer.set(A, boot_status="bad")
    peer.obeys = False
    with pytest.raises(SlotFailed, match="does not say so"):
        selector(peer, disk).confirm("a")


def test_a_trial_of_a_rauc_without_a_memory_is_one(peer: RaucPeer, disk: PowerDisk) -> None:
    """Without a status file RAUC forgets activations at a reboot."""
    peer.counts = False
    chooser = on_trial(peer, disk)
    assert chooser.state().on_trial
    chooser.confirm("b")
    assert not chooser.state().on_trial


def test_a_trial_of_a_rauc_without_a_memory_is_one_without_a_block_before(peer: RaucPeer, disk: PowerDisk) -> None:
    peer.counts = False
    chooser = selector(peer, disk)
    chooser.activate("b", 3)
    peer.boots(B)
    assert chooser.state().on_trial


def test_a_rauc_without_a_memory_that_activates_by_itself_begins_a_trial(peer: RaucPeer, disk: PowerDisk) -> None:
    peer.counts = False
    chooser = selector(peer, disk)
    chooser.block("b")
    peer._mark("active", B)
    peer.boots(B)
    assert chooser.state().on_trial


def test_a_rauc_that_forgot_costs_a_self_test(peer: RaucPeer, disk: PowerDisk) -> None:
    chooser = on_trial(peer, disk)
    chooser.confirm("b")
    del peer.slots[B]["activated.count"]
    assert chooser.state().on_trial
    chooser.confirm("b")
    assert not chooser.state().on_trial


@pytest.mark.parametrize("method", ["Mark", "GetSlotStatus", "GetPrimary"])
@pytest.mark.parametrize("name", CHANGES)
def test_what_rauc_says_is_told(peer: RaucPeer, disk: PowerDisk, name: str, method: str) -> None:
    peer.primary = B  # so that there is something to go back from
    peer.errors[method] = BUSY
    with pytest.raises(SlotFailed, match=BUSY):
        CHANGES[name](selector(peer, disk))


def test_no_slot_left(peer: RaucPeer, disk: PowerDisk) -> None:
    peer.errors["GetPrimary"] = "Failed getting primary slot: Unable to find primary boot slot"
    assert selector(peer, disk).state().primary is None


# ----------------------------------------------------------------------------------------- at every start


def test_a_good_slot_gets_its_tries_back(peer: RaucPeer, disk: PowerDisk) -> None:
    assert selector(peer, disk).repair() == []
    assert peer.marks() == [("good", "booted")]


def test_a_good_slot_whose_tries_are_gone_gets_them_back(peer: RaucPeer, disk: PowerDisk) -> None:
    chooser = on_trial(peer, disk)
    chooser.confirm("b")
    peer.set(B, boot_status="bad")
    assert chooser.repair() == ["slot b had no tries left and got them back"]
    assert not chooser.state().on_trial


def test_a_trial_is_not_ended_by_a_start(peer: RaucPeer, disk: PowerDisk) -> None:
    chooser = on_trial(peer, disk)
    before = peer.marks()
    assert chooser.repair() == []
    assert peer.marks() == before
    assert chooser.state().on_trial


def test_the_last_try_of_a_trial_is_not_made_a_good_one_by_a_start(peer: RaucPeer, disk: PowerDisk) -> None:
    """U-Boot counts down before it boots; GRUB marks a slot as tried: RAUC calls it bad while it runs."""
    chooser = on_trial(peer, disk)
    peer.set(B, boot_status="bad")
    assert chooser.repair() == []
    assert chooser.state().on_trial


def test_a_trial_that_waits_for_its_reboot_is_left_alone(peer: RaucPeer, disk: PowerDisk) -> None:
    chooser = selector(peer, disk)
    chooser.activate("b", 3)
    before = peer.marks()
    assert chooser.repair() == []
    assert peer.marks() == before


def test_after_a_fallback_the_good_slot_gets_its_tries_back(peer: RaucPeer, disk: PowerDisk) -> None:
    chooser = on_trial(peer, disk)
    peer._mark("bad", B)
    peer.boots(A)
    assert chooser.repair() == []
    assert peer.marks()[-1] == ("good", "booted")


# --------------------------------------------------------------------------------------------- the record


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"b": 3}', b"[" * 4000, b"\xff\xfe"])
def test_a_spoilt_record_costs_a_self_test(peer: RaucPeer, disk: PowerDisk, content: bytes) -> None:
    chooser = on_trial(peer, disk)
    chooser.confirm("b")
    disk.put(RECORD, content)
    assert chooser.state().on_trial
    assert [RECORD.name in words for words in chooser.repair()] == [True]
    chooser.confirm("b")
    assert not chooser.state().on_trial
    assert chooser.repair() == []


def test_a_record_of_absurd_size_is_not_read(peer: RaucPeer, disk: PowerDisk) -> None:
    disk.put(RECORD, bytes(5000))
    with pytest.raises(SlotFailed, match=r"rauc\.json"):
        selector(peer, disk).state()


@pytest.mark.parametrize("fate", Fate)
@pytest.mark.parametrize("name", ["confirm", "block", "revert"])
def test_power_cut_at_every_step_of_the_record(peer: RaucPeer, fate: Fate, name: str) -> None:
    """A trial is never taken for a good slot, a good slot at worst for a trial, and repeating the change heals it."""
    for cut in range(20):
        disk = empty_disk()
        factory = {slot: dict(status) for slot, status in peer.slots.items()}
        chooser = on_trial(peer, disk)
        if name == "block":
            chooser.confirm("b")
        disk.steps, disk.cut_before = 0, cut
        change: Change = {
            "confirm": lambda chooser: chooser.confirm("b"),
            "block": lambda chooser: chooser.block("a"),
            "revert": lambda chooser: chooser.revert("a"),
        }[name]
        try:
            change(chooser)
            finished = True
        except PowerCut:
            finished = False
        found = disk.after_cut(fate, random.Random(cut))
        chooser = selector(peer, found)
        if name == "block":
            assert not chooser.state().on_trial
        if name == "confirm" and not finished:
            chooser.repair()
        change(chooser)
        if name == "revert":
            peer.boots(A)
        assert not chooser.state().on_trial
        peer.slots.clear()
        peer.slots.update(factory)
        peer.primary = A
        if finished:
            break
    assert finished
