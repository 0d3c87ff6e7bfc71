"""What a scenario may expect: conditions over what a rig lets be seen.

Charter: pure judgements of an ``Observation``. A condition says nothing ("") when it holds, else what is seen instead.
Faults are those of ``shared/field-faults.md``: what was lost, doubled, disordered or impossible there is a condition
here.

Units: mA, mWh, amperes where a person says them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.sim.scenario.rig import Account, Observation, SeenEvse
from agent.sim.scenario.verbs import Message
from agent.sim.story import Books

_SIGNAL_STEP_MA = 60  # a duty of 0.1 % more or less: what a pilot can express
_OVERSHOOT_MA = 500  # what a car may draw above the signal before it counts (as the station's own margin)


@dataclass(frozen=True, slots=True)
class Condition:
    """``judge`` returns what is wrong, empty when it holds. ``evse`` 0: it concerns no EVSE of its own."""

    words: str
    judge: Callable[[Observation], str]
    evse: int = 0


# ------------------------------------------------------------------------------------------- EVSE


def _evse(words: str, evse: int, holds: Callable[[SeenEvse], bool]) -> Condition:
    def judge(seen: Observation) -> str:
        view = seen.evse(evse)
        return "" if holds(view) else view.words()

    return Condition(f"EVSE {evse} {words}", judge, evse)


def state(*states: str, evse: int = 1) -> Condition:
    """The station calls the connector so (OCPP 1.6 ChargePointStatus)."""
    return _evse(f"is {' or '.join(states)}", evse, lambda view: view.state in states)


def available(evse: int = 1) -> Condition:
    return state("Available", evse=evse)


def preparing(evse: int = 1) -> Condition:
    return state("Preparing", evse=evse)


def finished(evse: int = 1) -> Condition:
    return state("Finishing", evse=evse)


def faulted(evse: int = 1) -> Condition:
    return state("Faulted", evse=evse)


def charging(evse: int = 1) -> Condition:
    """In everybody's opinion: the station says so, the contactor is closed, current flows."""
    return _evse(
        "charges", evse, lambda view: view.state == "Charging" and view.contactor_closed and view.current_ma > 0
    )


def has_faults(*names: str, evse: int = 1) -> Condition:
    """Exactly these, in any order."""
    return _evse(
        f"has the faults {', '.join(names) or 'none'}", evse, lambda view: sorted(view.faults) == sorted(names)
    )


def no_power(evse: int = 1) -> Condition:
    return _evse("gives no power", evse, lambda view: not view.contactor_closed and view.current_ma == 0)


def offers(amperes: int, evse: int = 1) -> Condition:
    """The pilot signals this, and it is what the charging profiles say; 0: it signals nothing."""

    def holds(view: SeenEvse) -> bool:
        wanted_ma = amperes * 1_000
        return view.limit_ma == wanted_ma and abs(view.signalled_ma - wanted_ma) <= _SIGNAL_STEP_MA

    return _evse(f"offers {amperes} A, as its schedule says", evse, holds)


def at_most(amperes: int, evse: int = 1) -> Condition:
    """Neither more signalled nor more flowing than this."""

    def holds(view: SeenEvse) -> bool:
        most_ma = amperes * 1_000
        return view.signalled_ma <= most_ma + _SIGNAL_STEP_MA and view.current_ma <= most_ma + _OVERSHOOT_MA

    return _evse(f"has at most {amperes} A", evse, holds)


# ------------------------------------------------------------------------------------ link and CSMS


def online() -> Condition:
    return Condition("the link is up", lambda seen: "" if seen.online else "the station is offline")


def offline() -> Condition:
    return Condition("the link is down", lambda seen: "the station is online" if seen.online else "")


def booted(times: int) -> Condition:
    """The CSMS has accepted this many BootNotifications since the scenario began."""
    return Condition(
        f"{times} boots are told", lambda seen: "" if seen.boots == times else f"{seen.boots} boots were told"
    )


def told_status(*statuses: str, evse: int = 1) -> Condition:
    """The CSMS was told these statuses of the connector, in this order; others may stand between."""

    def judge(seen: Observation) -> str:
        told = [status for number, status in seen.statuses if number == evse]
        left = iter(told)
        return "" if all(status in left for status in statuses) else f"told: {', '.join(told) or 'nothing'}"

    return Condition(f"the CSMS is told of EVSE {evse}: {', '.join(statuses)}", judge, evse)


def nothing_wrong() -> Condition:
    """The CSMS has found no fault with any message."""
    return Condition("the CSMS finds no fault", lambda seen: "; ".join(each[:200] for each in seen.violations))


def all_told() -> Condition:
    """Nothing waits in the ledger for the CSMS."""

    def judge(seen: Observation) -> str:
        return "" if seen.undelivered == 0 else f"{seen.undelivered} rows wait"

    return Condition("everything is told", judge)


def heard(message: Message, taken: bool, times: int = 1) -> Condition:
    """The CSMS has heard this message at least so often, and booked it (or not)."""

    def judge(seen: Observation) -> str:
        count = sum(each.message is message and each.taken is taken for each in seen.told)
        return "" if count >= times else f"it was {count} times"

    return Condition(f"the CSMS {'takes' if taken else 'refuses'} {message} {times} times", judge)


def booked(*messages: Message, transactions: int = 1, once: bool = False) -> Condition:
    """The CSMS has the newest ``transactions`` of all, each from these messages in this order; one Values stands for
    any number above zero, and is not looked at where it is not named. ``once``: no message was told twice. Nothing
    waits any more, and where the book is whole there is nothing that the CSMS has to complain about."""
    names = ", ".join(messages)

    def judge(seen: Observation) -> str:
        if wrong := all_told().judge(seen):
            return wrong
        if len(seen.csms) < transactions:
            return f"the CSMS has {len(seen.csms)} transactions"
        for account in seen.csms[-transactions:]:
            told = [each for each in seen.told if each.tx == account.tx and each.taken]
            if once and any(each.repeated for each in told):
                return f"{account.tx}: {', '.join(each.words() for each in told)}"
            if _order(seen, account, messages) != list(messages):
                return f"{account.tx}: {', '.join(each.words() for each in told) or 'nothing'}"
        return ""

    exactly = "exactly " if once else ""
    return Condition(f"the CSMS has {exactly}{names} of {transactions} transactions, in order", judge)


def _order(seen: Observation, account: Account, messages: Sequence[Message]) -> list[Message]:
    """What was told of a transaction, repeats left out, runs of Values as one."""
    found: list[Message] = []
    for each in seen.told:
        if each.tx != account.tx or not each.taken or each.repeated:
            continue
        run = each.message is Message.VALUES and found[-1:] == [Message.VALUES]
        if not run and (each.message is not Message.VALUES or Message.VALUES in messages):
            found.append(each.message)
    return found


def in_order() -> Condition:
    """The CSMS has heard of its transactions one after the other at each EVSE, as the ledger has them."""

    def judge(seen: Observation) -> str:
        for evse in seen.evses:
            there = [(each.begin_mwh, each.end_mwh) for each in seen.ledger if each.evse == evse.evse]
            here = [(each.begin_mwh, each.end_mwh) for each in seen.csms if each.evse == evse.evse]
            if len(here) != len(there) or any(
                _apart(a, b) >= seen.csms_step_mwh
                for one, two in zip(there, here, strict=True)
                for a, b in _pairs(one, two)
            ):
                return f"EVSE {evse.evse}: ledger {there}, CSMS {here}"
        return ""

    return Condition("the CSMS has the transactions of the ledger, in order, with their registers", judge)


def _pairs(one: tuple[int, int | None], two: tuple[int, int | None]) -> list[tuple[int | None, int | None]]:
    return [(one[0], two[0]), (one[1], two[1])]


def _apart(one: int | None, two: int | None) -> int:
    if one is None or two is None:
        return 0 if one is two else 2**63
    return abs(one - two)


def stopped_for(*reasons: str, evse: int = 1) -> Condition:
    """The newest transaction at the EVSE ended for one of these, in the CSMS's book (OCPP's words)."""

    def judge(seen: Observation) -> str:
        found = [each for each in seen.csms if each.evse == evse]
        newest = found[-1].reason if found else "no transaction"
        return "" if newest in reasons else f"it is {newest}"

    return Condition(f"the CSMS knows the reason at EVSE {evse}: {' or '.join(reasons)}", judge, evse)


# ------------------------------------------------------------------------------------------- books


def kept(transactions: int) -> Condition:
    """The ledger has this many transactions, all ended."""

    def judge(seen: Observation) -> str:
        ended = sum(each.end_mwh is not None for each in seen.ledger)
        found = "; ".join(each.words() for each in seen.ledger) or "nothing"
        return "" if ended == len(seen.ledger) == transactions else f"it has {found}"

    return Condition(f"the ledger keeps {transactions} ended transactions", judge)


def totals_equal() -> Condition:
    """Car, meter, ledger and CSMS agree on the energy of every EVSE, as well as their units allow."""

    def judge(seen: Observation) -> str:
        wrong = [books for books in _books(seen) if not books.agree(seen.csms_step_mwh)]
        return "; ".join(
            f"EVSE {each.evse}: car {each.car_mwh}, meter {each.meter_mwh}, ledger {each.ledger_mwh}, "
            f"CSMS {each.csms_mwh} mWh in {each.transactions} transactions"
            for each in wrong
        )

    return Condition("car, meter, ledger and CSMS agree", judge)


def _books(seen: Observation) -> list[Books]:
    def total(accounts: Sequence[Account], evse: int) -> int:
        return sum(_energy_mwh(each) for each in accounts if each.evse == evse)

    return [
        Books(
            evse.evse,
            evse.taken_mwh,
            evse.metered_mwh,
            total(seen.ledger, evse.evse),
            total(seen.csms, evse.evse),
            sum(each.evse == evse.evse for each in seen.ledger),
        )
        for evse in seen.evses
    ]


def registers_never_fall() -> Condition:
    """In both books: no stop below its start, no start below the stop before it."""

    def judge(seen: Observation) -> str:
        for name, accounts in (("ledger", seen.ledger), ("CSMS", seen.csms)):
            for evse in seen.evses:
                ends = [
                    mwh
                    for each in accounts
                    if each.evse == evse.evse
                    for mwh in (each.begin_mwh, each.end_mwh)
                    if mwh is not None
                ]
                if ends != sorted(ends):
                    return f"{name}, EVSE {evse.evse}: {ends}"
        return ""

    return Condition("registers never fall", judge)


def nothing_impossible_billed() -> Condition:
    """No transaction of either book counts less than nothing, and all together no more than the cars took."""

    def judge(seen: Observation) -> str:
        for name, accounts, step_mwh in (("ledger", seen.ledger, 1), ("CSMS", seen.csms, seen.csms_step_mwh)):
            for evse in seen.evses:
                billed = [_energy_mwh(each) for each in accounts if each.evse == evse.evse]
                if min(billed, default=0) < 0 or sum(billed) > evse.taken_mwh + step_mwh * len(billed):
                    return f"{name}, EVSE {evse.evse}: {billed} mWh, the cars took {evse.taken_mwh}"
        return ""

    return Condition("nothing impossible is billed", judge)


def _energy_mwh(account: Account) -> int:
    return (account.begin_mwh if account.end_mwh is None else account.end_mwh) - account.begin_mwh


def no_negative_duration() -> Condition:
    """In both books nothing ends before it began."""

    def judge(seen: Observation) -> str:
        for name, accounts in (("ledger", seen.ledger), ("CSMS", seen.csms)):
            for each in accounts:
                if each.ended_wall_ms is not None and each.ended_wall_ms < each.began_wall_ms:
                    return f"{name}: {each.words()} ends {each.began_wall_ms - each.ended_wall_ms} ms before it begins"
        return ""

    return Condition("nothing ends before it began", judge)
