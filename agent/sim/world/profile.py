"""What goes wrong in a simulated world, and how often: profiles of faults, and the pace of life.

Charter: rates and durations, nothing of how a fault is made. A quiet world is the profile in which nothing goes
wrong; ``harsh`` has everything, some four faults a day, and ``brutal`` four times as many. Every kind has random
numbers of its own, so that a profile without one of them leaves the others where they were: that is how a failure
is shrunk.

Units: hours between two faults of a kind on average, over the whole station; seconds for how long one lasts.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from agent.sim.world.manners import HARSH as HARSH_MANNERS
from agent.sim.world.manners import QUIET as QUIET_MANNERS
from agent.sim.world.manners import Manners
from agent.sim.world.wire import QUIET as QUIET_NETWORK
from agent.sim.world.wire import NetworkFaults


class Trouble(enum.StrEnum):
    """The kinds of fault that the world itself makes; those of devices carry the names of ``outlet.Fault``."""

    POWER_CUT = "power_cut"
    BROWN_OUT = "brown_out"  # several short cuts in a row
    COMMIT_CUT = "commit_cut"  # power fails while a commit is being written
    STATION_KILL = "station_kill"
    GATEWAY_KILL = "gateway_kill"
    DISK_FULL = "disk_full"
    SYNC_FAILS = "sync_fails"
    CLOCK_STEP = "clock_step"  # the machine's clock, by hours or years
    CLOCK_LOST = "clock_lost"  # a power cut with a dead battery: 1970
    CLOCK_STANDS = "clock_stands"  # a power cut without a battery: the clock goes on where it stood
    CSMS_CLOCK = "csms_clock"  # the CSMS tells the wrong time for a while
    LINK_DOWN = "link_down"
    LINK_AWAY = "link_away"  # for days
    LINK_CUT = "link_cut"
    LINK_HALF_OPEN = "link_half_open"
    LINK_STALL = "link_stall"
    RUDE_CSMS = "rude_csms"  # answers late, twice, wrongly, not at all, for a while
    POISON = "poison"  # the CSMS refuses the next messages of one kind, or answers them with nonsense
    INSTALLER_AWAY = "installer_away"
    DEVICE = "device"  # any fault of any device
    CHARGE_FAULT = "charge_fault"  # the same in mid-charge, where most rules about power bite
    CHARGE_CUT = "charge_cut"  # power, process or disk fails in mid-charge: a transaction may go on


CUTS: Final = frozenset(
    {
        Trouble.POWER_CUT,
        Trouble.BROWN_OUT,
        Trouble.COMMIT_CUT,
        Trouble.CLOCK_LOST,
        Trouble.CLOCK_STANDS,
        Trouble.CHARGE_CUT,
        Trouble.DEVICE,  # power is away while a meter is exchanged
        Trouble.CHARGE_FAULT,
    }
)
"""Those that take the power away, and give it back."""


@dataclass(frozen=True, slots=True)
class Rate:
    """``every_h``: mean time between two; ``lasts_s``: at least and at most."""

    every_h: float
    lasts_s: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Profile:
    """``orders``: how busy the operator is (1.0: a busy one). ``rude``: what RUDE_CSMS brings; ``manners``: what always
    holds. ``careless``: the share of visits that go wrong."""

    name: str
    rates: Mapping[Trouble, Rate] = field(default_factory=dict)
    manners: Manners = QUIET_MANNERS
    rude: Manners = QUIET_MANNERS
    network: NetworkFaults = QUIET_NETWORK
    orders: float = 0.0
    careless: float = 0.0

    @property
    def longest_cut_s(self) -> float | None:
        """So long power is away at most; None: nothing of this profile cuts it."""
        return max((rate.lasts_s[1] for trouble, rate in self.rates.items() if trouble in CUTS), default=None)

    def without(self, names: frozenset[str]) -> Profile:
        """The same profile with some kinds of fault left out. Names: of ``Trouble``, or ``manners``, ``network``,
        ``orders``, ``careless``. Raises ``ValueError`` for others."""
        unknown = names - {trouble.value for trouble in Trouble} - set(EXTRAS)
        if unknown:
            known = ", ".join([*(trouble.value for trouble in Trouble), *EXTRAS])
            raise ValueError(f"no fault {', '.join(sorted(unknown))}; there are {known}")
        return replace(
            self,
            rates={trouble: rate for trouble, rate in self.rates.items() if trouble.value not in names},
            manners=QUIET_MANNERS if "manners" in names else self.manners,
            network=QUIET_NETWORK if "network" in names else self.network,
            orders=0.0 if "orders" in names else self.orders,
            careless=0.0 if "careless" in names else self.careless,
        )


EXTRAS: Final = ("manners", "network", "orders", "careless")
QUIET: Final = Profile("quiet")

MILD: Final = Profile(
    "mild",
    rates={
        Trouble.POWER_CUT: Rate(24 * 30, (1, 7_200)),
        Trouble.GATEWAY_KILL: Rate(24 * 30),
        Trouble.LINK_DOWN: Rate(24 * 3, (10, 3_600)),
        Trouble.LINK_HALF_OPEN: Rate(24 * 14, (60, 1_800)),
        Trouble.DEVICE: Rate(24 * 7, (1, 600)),
    },
    orders=0.1,
    careless=0.05,
)


def _often(name: str, factor: float) -> Profile:
    """Everything there is, so many times as often as in ``harsh``."""

    def rate(every_h: float, least_s: float = 0.0, most_s: float = 0.0) -> Rate:
        return Rate(every_h / factor, (least_s, most_s))

    return Profile(
        name,
        rates={
            Trouble.POWER_CUT: rate(160, 0.2, 7_200),
            Trouble.BROWN_OUT: rate(600, 1, 120),
            Trouble.COMMIT_CUT: rate(320, 1, 120),
            Trouble.STATION_KILL: rate(160),
            Trouble.GATEWAY_KILL: rate(120),
            Trouble.DISK_FULL: rate(800, 60, 20_000),
            Trouble.SYNC_FAILS: rate(600),
            Trouble.CLOCK_STEP: rate(600),
            Trouble.CLOCK_LOST: rate(800, 1, 600),
            Trouble.CLOCK_STANDS: rate(800, 1, 7_200),
            Trouble.CSMS_CLOCK: rate(1_200, 60, 7_200),
            Trouble.LINK_DOWN: rate(120, 1, 20_000),
            Trouble.LINK_AWAY: rate(1_440, 86_400, 30 * 86_400),
            Trouble.LINK_CUT: rate(80),
            Trouble.LINK_HALF_OPEN: rate(240, 30, 3_600),
            Trouble.LINK_STALL: rate(240, 1, 120),
            Trouble.RUDE_CSMS: rate(160, 60, 7_200),
            Trouble.POISON: rate(240),
            Trouble.INSTALLER_AWAY: rate(1_200, 60, 7_200),
            Trouble.DEVICE: rate(24, 0.05, 900),
            Trouble.CHARGE_FAULT: rate(48, 0.5, 2_700),
            Trouble.CHARGE_CUT: rate(12, 0.2, 90),
        },
        manners=Manners(
            boot_pending=0.1,
            boot_rejected=0.05,
            odd_timestamps=0.3,
            talks_before_boot=0.1,
            interval_zero=0.05,
            changes_mind=0.01,
            nulls=0.05,
        ),
        rude=HARSH_MANNERS,
        network=NetworkFaults(doubled=0.001, refused=0.05),
        orders=min(1.0, 0.25 * factor),
        careless=0.4,
    )


HARSH: Final = _often("harsh", 1.0)
BRUTAL: Final = _often("brutal", 4.0)

PROFILES: Final = {profile.name: profile for profile in (QUIET, MILD, HARSH, BRUTAL)}
