"""Security profiles of network slots (A05, B09), and what no CSMS can do by them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent.config.catalogue import PASSWORD, key
from agent.config.load import load
from agent.config.model import CsmsConfig, OcppVersion
from agent.config.networks import ACTIVE, PRIORITY, SECURITY_PROFILE, order_in, outdated, worked_last_in
from agent.config.station_model import build_device_model
from agent.core.facts import LogFact, SecurityFact
from agent.ipc.networks import NetworkProfile
from agent.ipc.port import News, SettingsChanged
from agent.ledger.state import Namespace, Put, StateChange
from agent.sim.virtual_time import run_virtual
from agent.station.networks import Networks

EXAMPLE = load(Path(__file__).parents[3] / "packaging" / "evsed.example.toml")
PLAIN = CsmsConfig(url="ws://old.example.com/ocpp")
GUARDED = replace(PLAIN, security_profile=1, password_file=Path("password"))
SECURE = replace(GUARDED, url="wss://old.example.com/ocpp", security_profile=2)


def to(security_profile: int = 0, **other: str | int) -> NetworkProfile:
    scheme = "wss" if security_profile >= 2 else "ws"
    profile = NetworkProfile(f"{scheme}://new.example.com/ocpp", "OCPP20", security_profile, 30, "Wired0")
    return replace(profile, **other)  # type: ignore[arg-type]


@dataclass
class Bench:
    """What a station keeps of networks, over starts."""

    csms: CsmsConfig | None = PLAIN
    has_root: bool = False
    kept: dict[str, str] = field(default_factory=dict)
    facts: list[LogFact | SecurityFact] = field(default_factory=list)
    news: list[News] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        config = replace(EXAMPLE, csms=self.csms)
        self.model = build_device_model(config, stored=self.kept)
        assert self.model.discarded == ()
        self.networks = Networks(config, self.model, lambda: self.has_root, self, asyncio.Lock())

    def store(self, slot: int, profile: NetworkProfile) -> str:
        return run_virtual(self.networks.store(slot, profile, "2.0.1"))

    def worked(self, slot: int) -> None:
        run_virtual(self.networks.worked(slot))

    def publish(self, news: News) -> None:
        self.news.append(news)

    def append(self, *facts: LogFact | SecurityFact) -> None:
        self.facts += facts

    async def save(self, changes: Sequence[StateChange]) -> None:
        for change in changes:
            assert isinstance(change, Put)
            assert change.namespace is Namespace.SETTING
            self.kept[change.key] = change.value


def test_what_was_stored_is_there_after_a_start_is_told_and_stands_in_the_log_book() -> None:
    bench = Bench()
    assert bench.store(2, to(message_timeout_s=45, interface="Wireless1")) == ""
    (news,) = bench.news
    assert isinstance(news, SettingsChanged)
    assert news.settings["NetworkConfiguration[2].OcppCsmsUrl"] == "ws://new.example.com/ocpp"
    assert any("NetworkConfiguration[2].OcppCsmsUrl" in str(fact) for fact in bench.facts)
    bench.start()
    shown = {
        name: bench.model.text(key(f"NetworkConfiguration[2].{name}")) for name in ("MessageTimeout", "OcppInterface")
    }
    assert shown == {"MessageTimeout": "45", "OcppInterface": "Wireless1"}


@pytest.mark.parametrize(
    ("csms", "profile", "has_root", "says"),
    [
        (None, to(), False, "without a CSMS"),
        (GUARDED, to(0), False, "below 1"),
        (SECURE, to(1), False, "below 2"),
        (PLAIN, to(1), False, "no password"),
        (PLAIN, to(2), True, "no password"),
        (GUARDED, to(2), False, "no root certificate"),
        (GUARDED, to(2), True, ""),
        (replace(GUARDED, ca_file=Path("ca")), to(2), False, ""),
        (SECURE, to(2), False, ""),
        (SECURE, to(3), True, "client certificate"),
        (replace(SECURE, client_certificate_file=Path("c"), client_key_file=Path("k")), to(3), True, ""),
        (PLAIN, to(0, version="OCPP16"), False, ""),
        (replace(PLAIN, versions=(OcppVersion.V201,)), to(0, version="OCPP16"), False, "only 2.0.1"),
        (PLAIN, to(-1), False, "0 to 3"),
        (PLAIN, to(0, message_timeout_s=601), False, "1 to 600 s"),
        (SECURE, to(2, url="ws://new.example.com/ocpp"), False, "must be wss://"),
    ],
)
def test_what_a_profile_needs(csms: CsmsConfig | None, profile: NetworkProfile, has_root: bool, says: str) -> None:
    bench = Bench(csms, has_root)
    refusal = bench.store(2, profile)
    assert says in refusal if says else refusal == ""
    assert bool(bench.kept) == (refusal == "")


def test_the_scheme_is_kept_in_small_letters() -> None:
    bench = Bench(GUARDED, has_root=True)
    assert bench.store(2, to(2, url="Wss://New.example.com/ocpp")) == ""
    assert bench.model.text(key("NetworkConfiguration[2].OcppCsmsUrl")) == "wss://New.example.com/ocpp"


def test_a_password_that_the_csms_has_set_will_do() -> None:
    bench = Bench()
    bench.model.put(PASSWORD, "sixteen characters")
    assert bench.store(2, to(1)) == ""


def test_a05_what_is_below_the_security_profile_that_worked_leaves_the_order_for_ever() -> None:
    bench = Bench(GUARDED, has_root=True)
    assert bench.store(2, to(2)) == ""
    assert bench.store(3, to(1)) == ""
    bench.model.put(PRIORITY, "1,2,3")
    bench.worked(1)
    assert bench.model.text(PRIORITY) == "1,2,3"
    bench.worked(2)
    for _ in range(2):
        assert bench.model.text(PRIORITY) == "2"
        assert bench.model.text(ACTIVE) == "2"
        assert bench.model.text(SECURITY_PROFILE) == "2"
        assert bench.networks.wrong_order("2") == ""
        assert "lower security profile" in bench.networks.wrong_order("2,1")
        assert "lower security profile" in bench.networks.wrong_order("3")
        assert "below 2" in bench.store(3, to(1))
        bench.start()


def test_a05_a_lower_slot_is_not_heard_of_again_whoever_accepts_the_station_there() -> None:
    bench = Bench(GUARDED, has_root=True)
    bench.store(2, to(2))
    bench.model.put(PRIORITY, "2,1")
    bench.worked(2)
    kept = dict(bench.kept)
    bench.worked(1)
    assert bench.kept == kept
    settings = bench.model.snapshot()
    assert (order_in(settings), worked_last_in(settings)) == ((2,), 2)
    assert order_in(settings | {str(PRIORITY): "1"}) == (2,), "as older software may have left it"


def test_b09_the_same_profile_again_is_no_row() -> None:
    bench = Bench()
    assert bench.store(2, to()) == ""
    facts, news = len(bench.facts), len(bench.news)
    assert bench.store(2, to()) == ""
    assert (len(bench.facts), len(bench.news)) == (facts, news)


def test_an_empty_slot_is_no_order() -> None:
    bench = Bench()
    assert bench.networks.wrong_order("1,3") == "slot 3 is empty"
    bench.store(3, to())
    assert bench.networks.wrong_order("3,1") == ""


def test_the_same_file_keeps_everything_and_another_csms_or_none_forgets_all_of_networks() -> None:
    bench = Bench()
    bench.store(2, to())
    bench.model.put(PRIORITY, "2")
    bench.kept[str(PRIORITY)] = "2"
    bench.worked(2)
    kept = bench.kept | {"OCPPCommCtrlr.HeartbeatInterval": "60"}
    assert outdated(PLAIN, kept) == ()
    assert outdated(replace(PLAIN, password_file=Path("x")), kept) == ()
    ours = {name for name in kept if name != "OCPPCommCtrlr.HeartbeatInterval"}
    for other in (None, replace(PLAIN, url="ws://other.example.com/"), replace(PLAIN, security_profile=1)):
        assert set(outdated(other, kept)) == ours
    assert outdated(SECURE, {"OCPPCommCtrlr.HeartbeatInterval": "60"}) == ()


def test_a_slot_that_nobody_has_filled_cannot_have_worked() -> None:
    bench = Bench()
    bench.worked(3)
    bench.worked(99)
    assert bench.kept == {}
