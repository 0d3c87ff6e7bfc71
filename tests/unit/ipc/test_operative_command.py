"""``evsed operative`` and ``evsed limit --clear-csms`` over a real socket, against a station that is a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.cli.main import main
from agent.core.commands import ChangeAvailability
from agent.core.status import Outcome
from agent.ipc.port import CommandAnswer, StationStatus, TariffAssignment
from agent.ipc.profiles import ProfileAnswer, ProfileOutcome
from tests.support.fake_station import FakeStation
from tests.support.station_socket import on_its_socket
from tests.support.web_rig import view

pytestmark = pytest.mark.wire
EXAMPLE = Path(__file__).parents[3] / "packaging" / "evsed.example.toml"


class HalfOpen(FakeStation):
    async def status(self) -> StationStatus:
        return replace(await super().status(), evses=(view(1), replace(view(2), operative=False)))


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStation]:
    """On its socket, in a thread of its own."""
    monkeypatch.setenv("SUDO_USER", "technician")
    made = HalfOpen()
    with on_its_socket(made, tmp_path):
        yield made


def ask(folder: Path, *words: str) -> int:
    config = folder / "evsed.toml"
    config.write_text(EXAMPLE.read_text().replace('run_dir = "/run/evsed"', f'run_dir = "{folder}"'))
    return main([*words, "--config", str(config)])


@pytest.mark.parametrize(
    "words, evse, code, said",
    [((), None, 1, "EVSE 2: out of service still"), (("--evse", "1"), 1, 0, "EVSE 1: operative\n")],
)
def test_what_is_out_of_service_still_is_told(
    tmp_path: Path,
    station: FakeStation,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    evse: int | None,
    code: int,
    said: str,
) -> None:
    assert ask(tmp_path, "operative", *words) == code
    (command,) = station.commands
    assert isinstance(command, ChangeAvailability)
    assert (command.operative, command.evse) == (True, evse)
    assert command.who.startswith("technician as ")
    assert said in capsys.readouterr().out


def test_an_evse_that_is_not_there(tmp_path: Path, station: FakeStation, capsys: pytest.CaptureFixture[str]) -> None:
    station.outcomes[ChangeAvailability] = CommandAnswer(Outcome.UNKNOWN_EVSE)
    assert ask(tmp_path, "operative", "--evse", "7") == 1
    assert capsys.readouterr().out == "there is no EVSE 7\n"


@pytest.mark.parametrize(
    "outcome, tariffs, said",
    [
        (ProfileOutcome.ACCEPTED, [], "removed: all charging profiles\nthere are no default tariffs of a CSMS\n"),
        (
            ProfileOutcome.UNKNOWN,
            ["day", "night"],
            "there are no charging profiles\nremoved: default tariffs day, night\n",
        ),
    ],
)
def test_all_profiles_and_tariffs_go_and_who_did_it_is_told(
    tmp_path: Path,
    station: FakeStation,
    capsys: pytest.CaptureFixture[str],
    outcome: ProfileOutcome,
    tariffs: list[str],
    said: str,
) -> None:
    station.profile_answer = ProfileAnswer(outcome)
    station.tariff_assignments = [TariffAssignment(each, 0, None) for each in tariffs]
    assert ask(tmp_path, "limit", "--clear-csms") == 0
    assert station.cleared == [{}] and len(station.cleared_by) == 2
    assert all(each.startswith("technician as ") for each in station.cleared_by)
    assert capsys.readouterr().out == said
