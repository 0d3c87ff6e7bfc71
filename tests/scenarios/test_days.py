"""Ordinary days and single troubles, on every rig that can play them."""

from __future__ import annotations

from agent.sim.scenario import library
from tests.scenarios.conftest import Perform


def test_remote_session(perform: Perform) -> None:
    perform(library.REMOTE_SESSION)


def test_reset_in_mid_session(perform_in_one: Perform) -> None:
    perform_in_one(library.RESET_IN_MID_SESSION)


def test_lost_meter(perform_at_leisure: Perform) -> None:
    perform_at_leisure(library.LOST_METER)


def test_full_disk(perform_in_one: Perform) -> None:
    perform_in_one(library.FULL_DISK)
