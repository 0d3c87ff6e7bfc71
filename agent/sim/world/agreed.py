"""What the CSMS and the station have agreed on money, and whether a receipt keeps to it.

Charter: remembers which default tariff may hold where, which tariffs may have priced a transaction and which limit it
may have, as far as the answers to the CSMS's orders tell; an order that got no answer leaves two that may. Each receipt
is held against that: its price against ``prices``, its energy, time and cost against the limit, and an end for a limit
against there being one. It reads answers and receipts, nothing of the station's memory.

Rules (docs/billing.md): the CSMS's default of an EVSE, else its default of all (0), else the site's tariff, as it was
when the transaction began; a new tariff of a transaction holds from the meter's next reading on; a newer limit takes
the place of the one before; what costs more than the limit is not billed; where station or CSMS kept it from any energy
there is neither fee nor least cost; what the meter cannot prove costs nothing; what goes on after a rollover has the
tariff, and what is left of the limit.

Units: cents, mWh, ms of virtual time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from agent.billing.read import Receipt
from agent.sim.virtual_time import now_ms
from agent.sim.world.prices import Charged, Prices, bounds

if TYPE_CHECKING:
    from agent.sim.world.mirror import Seen

ALL: Final = 0
"""The place of what is said of all EVSEs."""

CHOSEN_MS: Final = 60_000
"""A tariff was chosen so long before the start was durable, at most."""

LATE_MS: Final = 60_000
"""Beside what the pace allows: until a reading or a tick shows that a limit is reached, and the end is durable."""

EARLY_MS: Final = 60_000
"""A start is durable so long after its reading, at most."""

EARLY_CENTS: Final = 6
"""A station ends a transaction two seconds before it may pass its limit."""

EARLY_MWH: Final = 20_000
READING_MWH: Final = 300
"""Reading and truth are not of the same instant."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a transaction may use up at most; None: no such limit. ``told_ms``, ``drawn_mwh``: when the station had it
    (ms UTC), and what the transaction had drawn by then."""

    cents: int | None = None
    energy_mwh: int | None = None
    time_ms: int | None = None
    told_ms: int = 0
    drawn_mwh: int = 0


NO_LIMIT: Final = Limit()
_ENDED_BY: Final = {
    "LocalOutOfCredit": "cents",
    "EnergyLimitReached": "energy_mwh",
    "TimeLimitReached": "time_ms",
}
"""Reasons of an end, and the limit that each needs."""

_UNPROVED: Final = frozenset({"M", "X", "O"})
"""States of a meter, as OCMF has them, in which nothing may be billed."""

_NOT_THE_DRIVER: Final = frozenset({"DeAuthorized", "ImmediateReset", "Reboot"})
"""Where one of these ends it before any energy has flowed, nothing was sold."""


@dataclass(slots=True)
class Agreed:
    """On one transaction: ``tariffs`` that may have priced it, in order; ``before_mwh``, what it had drawn at least and
    at most as the last of them took over, None where nobody knows; ``limits`` of which one holds; ``replaced``, those
    before, each with when the order was answered; ``whole``: nothing of its session came before."""

    tariffs: list[Prices]
    limits: list[Limit] = field(default_factory=lambda: [NO_LIMIT])
    replaced: list[tuple[int, Limit]] = field(default_factory=list)
    before_mwh: tuple[int, int] | None = None
    whole: bool = True


class Agreements:
    """See the module. ``heard_ms()``: when a station that starts now heard its last order; ``most_w``: what each EVSE
    gives at most, a car that draws too much included; ``late_ms``: so late a station may see that energy, or time, has
    come to a limit."""

    def __init__(
        self,
        site: Prices,
        most_w: dict[int, int],
        heard_ms: Callable[[], int],
        wrong: Callable[[int, str], None],
        *,
        late_ms: tuple[int, int],
    ) -> None:
        self._site = site
        self._most_w = most_w
        self._heard_ms = heard_ms
        self._wrong = wrong
        self._late_energy_ms, self._late_time_ms = (each + LATE_MS for each in late_ms)
        self._defaults: dict[int, list[Prices | None]] = {place: [None] for place in (ALL, *most_w)}
        self._replaced: dict[int, list[tuple[int, Prices | None]]] = {place: [] for place in self._defaults}
        self.judged = self.limited = 0

    # ------------------------------------------------------------------------------------ defaults

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(self._defaults)

    def defaults(self, place: int) -> tuple[Prices | None, ...]:
        """The default tariffs that may hold here, None for none; one: it does."""
        return tuple(self._defaults[place])

    def may_become(self, place: int, tariff: Prices | None) -> None:
        """The CSMS asks for that."""
        if tariff not in self._defaults[place]:
            self._defaults[place].append(tariff)

    def became(self, place: int, *tariffs: Prices | None) -> None:
        """One of these holds here, for sure."""
        now = now_ms()
        kept = [(at_ms, each) for at_ms, each in self._replaced[place] if now - at_ms < CHOSEN_MS]
        self._replaced[place] = [*kept, *((now, each) for each in self._defaults[place] if each not in tariffs)]
        self._defaults[place] = list(tariffs)

    def at_start(self, evse: int) -> Agreed:
        """Of a transaction whose start is durable now."""
        own, common = self._lately(evse), self._lately(ALL)
        if None in own:
            own = own + [each for each in common if each not in own]
        site = [self._site] if None in own and None in common else []
        return Agreed([each for each in own if each is not None] + site)

    def _lately(self, place: int) -> list[Prices | None]:
        since_ms = self._heard_ms() - CHOSEN_MS
        before = [each for at_ms, each in self._replaced[place] if at_ms >= since_ms]
        return list(dict.fromkeys([*self._defaults[place], *before]))

    @staticmethod
    def follows(before: Agreed) -> Agreed:
        """Of a transaction in which the session of this one goes on."""
        return Agreed(list(before.tariffs), list(before.limits), whole=False)

    # -------------------------------------------------------------------------------------- judging

    def judge(self, seen: Seen, receipt: Receipt) -> None:
        """Its receipt is durable."""
        if receipt.bill is None:
            self._wrong(seen.evse, f"{seen.tx_id} has no price")
            return
        self.judged += 1
        cents = receipt.bill.total_incl
        if seen.end is not None and seen.end.meter_state in _UNPROVED:
            if cents:
                self._wrong(seen.evse, f"{seen.tx_id} costs {cents} cents, by a meter that cannot be believed")
            return
        self._judge_price(seen, receipt, cents)
        self._judge_end(seen, receipt, cents)
        problems = [self._passed(limit, seen, receipt, cents) for limit in seen.agreed.limits]
        self.limited += NO_LIMIT not in seen.agreed.limits
        if all(problems):
            self._wrong(seen.evse, f"{seen.tx_id} {problems[0]}")

    def _judge_price(self, seen: Seen, receipt: Receipt, cents: int) -> None:
        began, ended, agreed = seen.started, seen.ended_truth, seen.agreed
        assert ended is not None
        charged = Charged(
            energy_mwh=max(0, receipt.energy_mwh or 0),
            span=(began.wall_ms, ended.wall_ms),
            clock_sound=began.clock_sound and ended.clock_sound,
            whole=agreed.whole and not seen.rolled_over,
            sold=bool(receipt.energy_mwh) or not (agreed.whole and self._was_prevented(seen)),
            before_mwh=agreed.before_mwh if began.disturbed == ended.disturbed else None,
        )
        least, most = bounds(agreed.tariffs, charged)
        credits = [Fraction(limit.cents) for limit in agreed.limits if limit.cents is not None]
        if credits:  # what follows another transaction has what that has left, maybe nothing
            least = min(least, *credits) if agreed.whole else min(least, Fraction(0))
        if not least <= cents <= most:
            right, names = f"{float(least):.0f} to {float(most):.0f}", ", ".join(each.name for each in agreed.tariffs)
            self._wrong(seen.evse, f"{seen.tx_id} costs {cents} cents, {right} are right by {names}")

    @staticmethod
    def _was_prevented(seen: Seen) -> bool:
        """By station or CSMS, for sure: a meter that did not tell the end may have seen energy, and so may the
        transaction that follows."""
        told = seen.end is None or not seen.end.substituted
        return seen.reason in _NOT_THE_DRIVER and told and not seen.rolled_over

    def _passed(self, limit: Limit, seen: Seen, receipt: Receipt, cents: int) -> str:
        """What says that this limit did not hold; "" for nothing."""
        assert seen.ended_truth is not None
        if limit.cents is not None and cents > limit.cents:
            return f"costs {cents} cents, the CSMS allowed {limit.cents}"
        energy_mwh = receipt.energy_mwh or 0
        late_mwh = self._most_w[seen.evse] * self._late_energy_ms // 3_600 + seen.started.step_mwh
        if limit.energy_mwh is not None and energy_mwh > max(limit.energy_mwh, limit.drawn_mwh) + late_mwh:
            return f"has {energy_mwh} mWh, the CSMS allowed {limit.energy_mwh} mWh, when {limit.drawn_mwh} were drawn"
        undisturbed = seen.started.disturbed == seen.ended_truth.disturbed and seen.agreed.whole and not seen.gaps
        ended_ms = seen.ended_truth.wall_ms - seen.started.wall_ms
        told_ms = limit.told_ms - seen.started.wall_ms
        if limit.time_ms is not None and undisturbed and ended_ms > max(limit.time_ms, told_ms) + self._late_time_ms:
            return f"lasted {ended_ms} ms, the CSMS allowed {limit.time_ms} ms, {told_ms} ms after its start"
        return ""

    def _judge_end(self, seen: Seen, receipt: Receipt, cents: int) -> None:
        """An end for a limit needs one, and not before it is reached: for what goes on after a rollover, nobody here
        knows how much is left. One that is ending already may still be given another limit."""
        assert seen.ended_truth is not None
        name = _ENDED_BY.get(seen.reason)
        if name is None:
            return
        lately = [limit for at_ms, limit in seen.agreed.replaced if now_ms() - at_ms < LATE_MS]
        limits = [limit for limit in seen.agreed.limits + lately if getattr(limit, name) is not None]
        used, early = {
            "cents": (cents, EARLY_CENTS),
            "energy_mwh": (receipt.energy_mwh or 0, EARLY_MWH + seen.started.step_mwh),
            "time_ms": (seen.ended_truth.wall_ms - seen.started.wall_ms, EARLY_MS),
        }[name]
        least = min((getattr(limit, name) for limit in limits), default=None)
        if least is None:
            self._wrong(seen.evse, f"{seen.tx_id} ended for {seen.reason}, and has no such limit")
        elif name == "cents" and not receipt.energy_mwh:
            return  # it did not reach for the start fee, which then is not billed
        elif seen.agreed.whole and not seen.gaps and used < least - early:
            self._wrong(seen.evse, f"{seen.tx_id} ended for {seen.reason} at {used}, the limit is {least}")
