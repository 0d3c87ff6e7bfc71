"""The station that a simulated world has: its configuration, drawn from the seed.

Charter: writes a configuration file like an installer's, and reads it as the product does. Seeds differ in boards,
cables, supply, tariffs and settings, so that a campaign covers what a single site never has together.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Final

from agent.config.load import load
from agent.config.model import Config
from agent.sim.signer import Signer
from agent.sim.world.pace import Pace

TOKENS: Final = ("04A1B2C3D4E5F6", "04FFEEDDCCBBAA", "DEADBEEF", "11223344556677", "0A0B0C0D")
LOCAL_TOKEN: Final = TOKENS[0]
UNKNOWN_TOKEN: Final = "BADBADBADBAD00"
RETENTION_DAYS: Final = 20

_BASE: Final = """\
[station]
identity = "WORLD-{seed}"
vendor = "evsed"
model = "Simulated"
serial = "SIM-{seed}"
data_dir = "{folder}/data"
run_dir = "{folder}/run"
time_zone = "{zone}"

[csms]
url = "ws://csms.example/ocpp"
versions = ["{version}"]

[limits]
supply_current_ma = {supply_ma}
{offline}
[session]
resume_window_s = {resume_s}

[metering]
retention_days = {retention_days}

[price]
tariff = "{folder}/tariff.json"

[settings]
"SampledDataCtrlr.TxUpdatedInterval" = {sample_s}
"AlignedDataCtrlr.Interval" = {aligned_s}
"SampledDataCtrlr.SignReadings" = {signs}
"OCPPCommCtrlr.HeartbeatInterval" = {heartbeat_s}
"OCPPCommCtrlr.WebSocketPingInterval" = {ping_s}
"TxCtrlr.StopTxOnEVSideDisconnect" = {stop_on_unplug}
{authorization}
[[token]]
id = "{local_token}"

[update]
engine = "native"
selector = "file"
state_dir = "{folder}/installer"
compatible = "simulated"
roots = "{folder}/roots.pem"
plain = "bundle"
self_test_s = 60
boot_id_file = "{folder}/boot-id"
command_line_file = "{folder}/cmdline"

[[update.slot]]
target = "rootfs"
a = "{folder}/slot-a"
b = "{folder}/slot-b"

"""

_EVSE: Final = """\
[[evse]]
id = {id}
board = "{board}"
connector_type = "{connector}"
cable = "{cable}"
max_current_ma = {max_ma}
phases = {phases}
[evse.pilot]
port = "{folder}/pilot{id}"
[evse.meter]
port = "{folder}/meter{id}"
{rollover}
"""

_DC: Final = """\
[evse.power]
interface = "socketcan"
channel = "can{id}"
modules = [0, 1]
[evse.fixed_output]
voltage_mv = 400_000
current_ma = 40_000
"""


def chance_of(seed: int, name: str) -> random.Random:
    """The random numbers of one part of this seed's world."""
    return random.Random(f"{seed}/{name}")


def drawn_site(folder: Path, seed: int, pace: Pace) -> Config:
    """The station of this seed; even ones speak OCPP 1.6, odd ones 2.0.1."""
    evses = chance_of(seed, "evses").choice((1, 2, 2, 2, 2, 2, 3, 4))
    return make_site(folder, seed, chance_of(seed, "site"), "1.6" if seed % 2 == 0 else "2.0.1", pace, evses)


def make_site(folder: Path, seed: int, chance: random.Random, version: str, pace: Pace, evses: int = 2) -> Config:
    """Write the files of such a station to ``folder`` and read them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "roots.pem").write_text(Signer.make("World").root_pem)  # an image on trial must be able to read it
    (folder / "cmdline").write_text("evsed.slot=a")
    (folder / "tariff.json").write_text(json.dumps(_tariff(chance)))
    # The limit while offline makes a difference only where it is less than the station's.
    offline = f"offline_current_ma = {chance.choice((6_000, 10_000, 16_000))}\n" if chance.random() < 0.5 else ""
    text = _BASE.format(
        seed=seed,
        folder=folder,
        version=version,
        zone=chance.choice(("Europe/Berlin", "America/New_York", "Asia/Kolkata")),
        supply_ma=chance.choice((16_000, 32_000, 63_000)),
        offline=offline,
        resume_s=chance.choice((0, 60, 600)),
        retention_days=RETENTION_DAYS,
        sample_s=chance.choice((900, 3_600)),
        aligned_s=chance.choice((0, 0, 21_600)),
        signs=chance.choice(("true", "false")),
        heartbeat_s=pace.heartbeat_s,
        ping_s=pace.ping_s,
        stop_on_unplug=chance.choice(("true", "true", "false")),
        authorization=_authorization(chance),
        local_token=LOCAL_TOKEN,
    )
    text += "".join(_evse(number, folder, chance) for number in range(1, evses + 1))
    file = folder / "evsed.toml"
    file.write_text(text)
    return load(file)


def _authorization(chance: random.Random) -> str:
    """Who is asked before a start; what is usual comes first. That a token which nobody knows starts nothing is a rule
    here, so that nobody allows just that."""
    drawn = {
        "AuthCtrlr.LocalPreAuthorize": chance.choice(("false", "true")),
        "AuthCtrlr.LocalAuthorizeOffline": chance.choice(("true", "false")),
        "AuthCtrlr.AuthorizeRemoteStart": chance.choice(("false", "true")),
        "AuthCacheCtrlr.Enabled": chance.choice(("true", "false")),
        "TxCtrlr.StopTxOnInvalidId": chance.choice(("true", "false")),
    }
    return "".join(f'"{name}" = {value}\n' for name, value in drawn.items())


def _evse(number: int, folder: Path, chance: random.Random) -> str:
    board = chance.choice(("mcu_ac", "mcu_ac", "openevse", "mcu_dc"))
    socket = board == "mcu_ac" and chance.random() < 0.6
    text = _EVSE.format(
        id=number,
        folder=folder,
        board=board,
        connector="cCCS2" if board == "mcu_dc" else "sType2" if socket else "cType2",
        cable="socket" if socket else "fixed",
        max_ma=60_000 if board == "mcu_dc" else chance.choice((16_000, 32_000)),
        phases=1 if board == "mcu_dc" else chance.choice((1, 3)),
        rollover="rollover_kwh = 100_000" if chance.random() < 0.5 else "",
    )
    return text + (_DC.format(id=number) if board == "mcu_dc" else "")


def _tariff(chance: random.Random) -> dict[str, Any]:
    tariff: dict[str, Any] = {
        "tariffId": "site-1",
        "currency": "EUR",
        "energy": {
            "prices": [
                {"priceKwh": 0.55, "conditions": {"startTimeOfDay": "07:00", "endTimeOfDay": "21:00"}},
                {"priceKwh": 0.35},
            ],
            "taxRates": [{"type": "VAT", "tax": 19}],
        },
    }
    if chance.random() < 0.5:
        tariff["idleTime"] = {"prices": [{"priceMinute": 0.1, "conditions": {"minIdleTime": 1_800}}]}
    if chance.random() < 0.3:
        tariff["fixedFee"] = {"prices": [{"priceFixed": 0.5}]}
    return tariff
