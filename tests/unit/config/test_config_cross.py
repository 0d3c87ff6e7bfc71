"""Relations between the values of a configuration: each broken one is told, under the right key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.config.load import check_file
from agent.sim.stage import TARIFF
from hal.boards import bundled_boards

HEAD = """
[station]
identity = "CP-1"
vendor = "Example"
model = "Box"
serial = "S1"
data_dir = "/d"
run_dir = "/r"
[csms]
url = "ws://127.0.0.1:9000"
"""


def evse(number: int, **changes: object) -> str:
    """An AC EVSE with ports of its own; ``changes`` are TOML texts by key, tables under their names."""
    values: dict[str, object] = {
        "id": number,
        "board": '"mcu_ac"',
        "connector_type": '"cType2"',
        "cable": '"fixed"',
        "max_current_ma": 16_000,
        "pilot": f'port = "/dev/pilot{number}"',
        "meter": f'port = "/dev/meter{number}"',
    } | changes
    tables = {name: values.pop(name) for name in ("pilot", "meter", "power", "fixed_output") if name in values}
    lines = [f"{name} = {value}" for name, value in values.items()]
    lines += [f"[evse.{name}]\n{text}" for name, text in tables.items()]
    return "\n".join(["[[evse]]", *lines, ""])


def dc(number: int, **changes: object) -> str:
    built: dict[str, object] = {
        "board": '"mcu_dc"',
        "connector_type": '"cCCS2"',
        "power": f'interface = "socketcan"\nchannel = "can0"\nmodules = [{number}]',
        "fixed_output": "voltage_mv = 400_000\ncurrent_ma = 10_000",
    }
    return evse(number, **(built | changes))


def csms(*lines: str, url: str = "wss://host") -> str:
    return HEAD.replace("ws://127.0.0.1:9000", url) + "\n".join(lines) + "\n" + evse(1)


def page(*lines: str) -> str:
    return HEAD + "[web]\n" + "\n".join(lines) + "\n" + evse(1)


def mcu(*lines: str, engine: str = "native") -> str:
    update = f"[update]\nengine = '{engine}'\nstate_dir = '/s'\ncompatible = 'x'\nroots = '{{here}}'\n"
    slot = "[[update.slot]]\na = '/dev/a'\nb = '/dev/b'\n"
    controller = "[[update.mcu]]\nname = 'pilot'\nport = '/dev/p'\nchip_id = 0x468\n"
    return HEAD + update + slot + controller + "\n".join(lines) + "\n" + evse(1)


def shared(unit: int, extra: str = "") -> str:
    return f'port = "/dev/bus"\nunit = {unit}\n{extra}'


GOOD = {
    "two AC on one meter line": HEAD + evse(1, meter=shared(1)) + evse(2, meter=shared(2)),
    "AC and DC": HEAD + evse(1) + dc(2),
    "two DC on one CAN": HEAD + dc(1) + dc(2),
    "modules of the same address on two buses": HEAD
    + dc(1)
    + dc(2, power='interface = "socketcan"\nchannel = "can1"\nmodules = [1]'),
    "order does not count": HEAD + evse(2) + evse(1),
    "autonomous board at its hard limit": HEAD + evse(1, board='"openevse"', max_current_ma=80_000),
    "TLS without password": csms(),
    "page for this machine": page(),
    "page for the network by TLS": page("address = '::'", "certificate_file = '{here}'", "key_file = '{here}'"),
    "microcontroller": mcu("page_bytes = 2_048", "pages = 64", "version_offset = 131_008"),
    "microcontroller of the largest flash": mcu("page_bytes = 131_072", "pages = 32"),
    "settings": HEAD + "[settings]\n'Txctrlr.evconnectiontimeout' = 10\n" + evse(1),
    "no CSMS but free": HEAD.partition("[csms]")[0] + "[auth]\nfree = true\n" + evse(1),
    "no CSMS but a token": HEAD.partition("[csms]")[0] + "[[token]]\nid = '1'\n" + evse(1),
}

BAD = {
    "gap in ids": (HEAD + evse(1) + evse(3), {"evse"}),
    "id twice": (HEAD + evse(1) + evse(2, id=1), {"evse"}),
    "pilot shared": (HEAD + evse(1) + evse(2, pilot='port = "/dev/pilot1"'), {"evse[1].pilot.port"}),
    "meter on a pilot's port": (HEAD + evse(1) + evse(2, meter='port = "/dev/pilot1"'), {"evse[1].meter.port"}),
    "meter on its own pilot's port": (HEAD + evse(1, meter='port = "/dev/pilot1"'), {"evse[0].meter.port"}),
    "unit id twice": (HEAD + evse(1, meter=shared(1)) + evse(2, meter=shared(1)), {"evse[1].meter.unit"}),
    "baud differs on a line": (
        HEAD + evse(1, meter=shared(1)) + evse(2, meter=shared(2, "baud = 19_200")),
        {"evse[1].meter"},
    ),
    "parity differs on a line": (
        HEAD + evse(1, meter=shared(1)) + evse(2, meter=shared(2, 'parity = "E"')),
        {"evse[1].meter"},
    ),
    "modules shared": (
        HEAD + dc(1) + dc(2, power='interface = "socketcan"\nchannel = "can0"\nmodules = [1, 2]'),
        {"evse[1].power.modules"},
    ),
    "above the board": (HEAD + evse(1, max_current_ma=32_001), {"evse[0].max_current_ma"}),
    "below 6 A": (HEAD + evse(1, max_current_ma=5_999), {"evse[0].max_current_ma"}),
    "more phases than the board": (HEAD + dc(1, phases=3), {"evse[0].phases"}),
    "unknown meter map": (HEAD + evse(1, meter='port = "/m"\nmap = "none"'), {"evse[0].meter.map"}),
    "socket type on a cable": (HEAD + evse(1, connector_type='"sType2"'), {"evse[0].cable"}),
    "cable type on a socket": (HEAD + evse(1, cable='"socket"'), {"evse[0].cable"}),
    "autonomous board with a socket": (
        HEAD + evse(1, board='"openevse"', connector_type='"sType2"', cable='"socket"'),
        {"evse[0].cable"},
    ),
    "CCS on AC": (HEAD + evse(1, connector_type='"cCCS2"'), {"evse[0].connector_type"}),
    "Type 2 on DC": (HEAD + dc(1, connector_type='"cType2"'), {"evse[0].connector_type"}),
    "power on AC": (
        HEAD + evse(1, power='interface = "slcan"\nchannel = "x"\nmodules = [0]'),
        {"evse[0].power"},
    ),
    "fixed output on AC": (
        HEAD + evse(1, fixed_output="voltage_mv = 400_000\ncurrent_ma = 1"),
        {"evse[0].fixed_output"},
    ),
    "DC without anything": (
        HEAD + evse(1, board='"mcu_dc"', connector_type='"cCCS2"'),
        {"evse[0].power", "evse[0].fixed_output"},
    ),
    "DC output over the board's voltage": (
        HEAD + dc(1, fixed_output="voltage_mv = 1_000_001\ncurrent_ma = 1"),
        {"evse[0].fixed_output.voltage_mv"},
    ),
    "DC output over the current": (
        HEAD + dc(1, fixed_output="voltage_mv = 400_000\ncurrent_ma = 16_001"),
        {"evse[0].fixed_output.current_ma"},
    ),
    "DC output over the power": (
        HEAD + dc(1, max_current_ma=100_000, fixed_output="voltage_mv = 400_000\ncurrent_ma = 80_000"),
        {"evse[0].fixed_output"},
    ),
    "offline limit between 0 and 6 A": (
        HEAD + "[limits]\noffline_current_ma = 5_000\n" + evse(1),
        {"limits.offline_current_ma"},
    ),
    "token twice": (
        HEAD + "[[token]]\nid = 'ab'\n[[token]]\nid = 'AB'\n" + evse(1),
        {"token[0].id", "token[1].id"},
    ),
    "nobody can charge": (HEAD.partition("[csms]")[0] + evse(1), {"auth.free"}),
    "run_dir too long for a socket": (HEAD.replace('"/r"', f'"/{"r" * 95}"') + evse(1), {"station.run_dir"}),
    "profile 2 without TLS": (
        csms("security_profile = 2", "password_file = '{here}'", url="ws://host"),
        {"csms.url"},
    ),
    "profile 1 with TLS": (
        csms("security_profile = 1", "password_file = '{here}'"),
        {"csms.security_profile"},
    ),
    "profile 2 without password": (csms("security_profile = 2"), {"csms.password_file"}),
    "profile 0 with password": (csms("password_file = '{here}'"), {"csms.security_profile"}),
    "profile 3 without certificate": (
        csms("security_profile = 3"),
        {"csms.client_certificate_file", "csms.client_key_file"},
    ),
    "certificate without profile 3": (csms("client_key_file = '{here}'"), {"csms.client_key_file"}),
    "page for the network without TLS": (page("address = '0.0.0.0'"), {"web.certificate_file"}),
    "page with half of its TLS": (page("certificate_file = '{here}'"), {"web.key_file"}),
    "page with the other half": (page("key_file = '{here}'"), {"web.certificate_file"}),
    "page at no address": (page("address = 'localhost'"), {"web.address"}),
    "page under a name that is none": (page("names = ['Charger']"), {"web.names"}),
    "microcontroller whose pages are no blocks": (mcu("page_bytes = 1_000", "pages = 1"), {"update.mcu[0]"}),
    "microcontroller of too large a flash": (mcu("page_bytes = 131_072", "pages = 33"), {"update.mcu[0]"}),
    "microcontroller whose version lies behind its flash": (
        mcu("page_bytes = 2_048", "pages = 64", "version_offset = 131_009"),
        {"update.mcu[0]"},
    ),
    "microcontroller beside RAUC": (mcu("page_bytes = 1_000", "pages = 1", engine="rauc"), {"update.mcu[0]"}),
    "bad settings, each told": (
        HEAD
        + "[settings]\n'Nope.X' = 1\n'TxCtrlr.EVConnectionTimeOut' = 0\n'TxCtrlr.TxStartPoint' = 'PowerPathClosed'\n"
        + "'SecurityCtrlr.BasicAuthPassword' = 'sixteen-or-more-c'\n'nodot' = 1\n"
        + evse(1),
        {
            "settings.Nope.X",
            "settings.TxCtrlr.EVConnectionTimeOut",
            "settings.TxCtrlr.TxStartPoint",
            "settings.SecurityCtrlr.BasicAuthPassword",
            "settings.nodot",
        },
    ),
}


def paths(tmp_path: Path, text: str) -> set[str]:
    file = tmp_path / "evsed.toml"
    file.write_text(text.replace("{here}", str(file)))
    return {problem.path for problem in check_file(file)}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_good(tmp_path: Path, text: str) -> None:
    assert paths(tmp_path, text) == set()


@pytest.mark.parametrize(("text", "expected"), BAD.values(), ids=BAD)
def test_bad(tmp_path: Path, text: str, expected: set[str]) -> None:
    """16-SEC-01, A00 among them: what each security profile needs."""
    assert paths(tmp_path, text) == expected


def test_no_evse_at_all(tmp_path: Path) -> None:
    assert paths(tmp_path, "evse = []\n" + HEAD) == {"evse"}


HIDDEN = "price.tariff", "price.assign[0].tariff", "csms.ca_file", "evse[0].board"


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_files_of_all_processes_do_not_lie_where_only_the_station_may_look(
    tmp_path: Path, *, alone: bool, link: bool
) -> None:
    """Gateway and installer would end for good. The live tariff is the station's; without the others all are."""
    own, shown = tmp_path / "own", tmp_path / ("shown" if link else "own")
    own.mkdir()
    if link:
        shown.symlink_to(own)
    (own / "flat.json").write_text(json.dumps(TARIFF))
    (own / "ca.pem").write_text("")
    (own / "mine.toml").write_bytes(bundled_boards()["mcu_ac"].read_bytes())
    tariff = f"tariff = '{shown}/flat.json'\n"
    price = f"[price]\nlive_tariff = '{own}/live.json'\n{tariff}[[price.assign]]\nevse = 1\n{tariff}"
    csms = f"ca_file = '{shown}/ca.pem'\n"
    head, _, url = HEAD.replace('"/d"', f"'{own}'").partition("[csms]")
    text = price + evse(1, board=f"'{shown}/mine.toml'")
    text = f"{head}[auth]\nfree = true\n{text}" if alone else f"{head}[csms]{url}{csms}{text}"
    assert paths(tmp_path, text) == (set() if alone else set(HIDDEN))
    assert paths(tmp_path, text.replace(f"'{own}'", f"'{own}/data'")) == set()


def test_a_password_in_the_settings_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "evsed.toml"
    file.write_text(HEAD + "[settings]\n'SecurityCtrlr.BasicAuthPassword' = 'sixteen-or-more-c'\n" + evse(1))
    assert "sixteen" not in " ".join(map(str, check_file(file)))
