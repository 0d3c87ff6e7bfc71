"""A station's logic made from its configuration and from what its ledger remembers.

Charter: construction only: core, limits, tariffs, prices, and what signed documents say of this station.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import structlog

from agent.billing.books import Terms
from agent.billing.facts import Operator, Software
from agent.billing.record import Identity
from agent.billing.software import digest
from agent.charging.composite import Feed
from agent.charging.records import MalformedRecord, set_from_plain
from agent.charging.rules import Capabilities
from agent.config.catalogue import key as catalogue_key
from agent.config.device_model import DeviceModel
from agent.config.model import Config, EvseConfig
from agent.config.money import AfterDamage
from agent.config.networks import outdated
from agent.config.station_model import build_device_model
from agent.core.context import TariffFor
from agent.core.faults import LASTING
from agent.core.settings import StationSettings
from agent.core.station import Station
from agent.core.status import FaultCode
from agent.ipc.codec import CodecError, from_json
from agent.ledger.space import Look, Reserve
from agent.ledger.state import Namespace
from agent.ocmf.sign import SigningKey
from agent.station.archive import Archive
from agent.station.behaviour import behaviour_of
from agent.station.billing import Billing
from agent.station.build import Build
from agent.station.hardware import describe
from agent.station.limits import Limits
from agent.station.rows import RowMaker, Seller
from agent.station.tariffs import TariffBook
from agent.station.upkeep import Shell, Upkeep
from agent.tariff.model import EvseKind
from hal.boards import BoardKind

_SPEAK_AGAINST_CHARGING = (Namespace.FAULT, Namespace.AVAILABILITY, Namespace.PROFILE, Namespace.FORGOTTEN)
log = structlog.get_logger("station")


def make_model(build: Build, archive: Archive) -> DeviceModel:
    stored = archive.state(Namespace.SETTING)
    for name in outdated(build.config.csms, stored):
        del stored[name]
    model = build_device_model(build.config, stored=stored)
    if model.discarded:
        log.warning("stored settings no longer valid, defaults hold", settings=list(model.discarded))
    return model


def make_core(
    build: Build, archive: Archive, model: DeviceModel, new_tx_id: Callable[[], str], tariff_for: TariffFor
) -> Station:
    config, kept, faults = build.config, archive.state(Namespace.AVAILABILITY), archive.state(Namespace.FAULT)
    settings = StationSettings(
        evses=tuple(describe(evse) for evse in config.evse),
        timing=config.timing,
        behaviour=behaviour_of(model, config),
        operative=kept.get("station") != "no",
        inoperative_evses=frozenset(evse.id for evse in config.evse if kept.get(str(evse.id)) == "no"),
        lasting_faults={evse.id: lasting_faults(faults.get(str(evse.id), "")) for evse in config.evse},
    )
    return Station(settings, new_tx_id, tariff_for)


def lasting_faults(words: str) -> tuple[FaultCode, ...]:
    """The faults of an EVSE as ``Disk.keep_faults`` wrote them."""
    known = {code.value: code for code in LASTING}
    if unknown := [word for word in words.split() if word not in known]:
        log.error("faults of another version of this software cannot be kept", faults=unknown)
    return tuple(known[word] for word in words.split() if word in known)


def make_limits(build: Build, archive: Archive, model: DeviceModel) -> Limits:
    config = build.config
    feeds = tuple(feed_of(evse, config.limits.offline_current_ma) for evse in config.evse)
    capabilities = Capabilities(
        evse_count=len(feeds),
        max_stack_level=model.integer(catalogue_key("SmartChargingCtrlr.ProfileStackLevel")),
        max_periods=model.integer(catalogue_key("SmartChargingCtrlr.PeriodsPerSchedule")),
        max_installed=model.spec(catalogue_key("SmartChargingCtrlr.Entries[ChargingProfiles]")).maximum or 1,
    )
    mains_mv = min(evse.voltage_v for evse in config.evse) * 1_000
    limits = Limits(feeds, config.limits.supply_current_ma, capabilities, mains_mv)
    stored = archive.state(Namespace.PROFILE).get("installed")
    if stored is not None:
        try:
            limits.profiles, wrong = set_from_plain(from_json(stored.encode()))
            for each in wrong:
                log.error("a stored charging profile cannot be read, it does not hold", reason=str(each))
        except (MalformedRecord, CodecError) as error:
            log.error("stored charging profiles cannot be read, none hold", reason=str(error))
    return limits


def feed_of(evse: EvseConfig, offline_limit_ma: int | None) -> Feed:
    """What charging profiles and the supply limit here. A DC output gives no more than its fixed demand."""
    hard_limit_ma, fixed = min(evse.max_current_ma, evse.board.limits.max_current_ma), evse.fixed_output
    voltage_mv, phases = evse.voltage_v * 1_000, evse.phases
    if fixed is not None:
        hard_limit_ma, voltage_mv, phases = min(hard_limit_ma, fixed.current_ma), fixed.voltage_mv, 1
    return Feed(
        evse.id,
        hard_limit_ma,
        voltage_mv,
        phases,
        minimum_ma=evse.board.limits.min_current_ma,
        dc=fixed is not None,
        offline_limit_ma=offline_limit_ma,
    )


def make_tariffs(build: Build, archive: Archive) -> TariffBook:
    config = build.config
    return TariffBook(
        config.price,
        [evse.id for evse in config.evse],
        archive.tariff_text,
        archive.tariff_source,
        archive.state(Namespace.TARIFF),
        has_csms=config.csms is not None,
        has_zone=config.station.has_time_zone,
    )


def make_billing(build: Build, core: Station, tariffs: TariffBook) -> Billing:
    min_energy_mwh = build.config.price.minimum_billable_wh * 1_000
    terms = partial(terms_of, build.config)
    most_mw = {evse.id: evse.max_power_w * 1_000 for evse in build.config.evse}
    return Billing(core, tariffs, terms, build.boot_id, most_mw=most_mw, min_energy_mwh=min_energy_mwh)


def make_rows(build: Build, archive: Archive, billing: Billing, key: SigningKey, model: DeviceModel) -> RowMaker:
    return RowMaker(
        billing,
        identity_of(build),
        seller_of(build),
        key,
        archive.state(Namespace.METER),
        lambda: model.boolean(catalogue_key("SampledDataCtrlr.SignStartedReadings")),
    )


def make_upkeep(
    build: Build, shell: Shell, billing: Billing, reserve: Reserve, look: Look, refuses: Callable[[], str]
) -> Upkeep:
    config = build.config
    return Upkeep(
        shell,
        billing,
        build.ledger_path,
        live_tariff=config.price.live_tariff,
        reserve=reserve,
        floor_bytes=build.floor_bytes,
        look=look,
        refuses=refuses,
        config_file=build.config_file,
    )


def unseen_damage(evidence: Sequence[Path], archive: Archive) -> str:
    """The newest file that a damaged ledger is kept as and that no person has acknowledged; empty: there is none."""
    seen = int(archive.state(Namespace.DAMAGE).get("acknowledged", "0"))
    forgotten = archive.state(Namespace.FORGOTTEN)  # whoever has taken the file away has not acknowledged it
    return evidence[-1].name if len(evidence) > seen else next(iter(forgotten.values()), "")


def refused_starts(config: Config, damage: str, forgotten: Collection[str]) -> str:
    """Why no transaction may begin after ``damage`` to the ledger; empty where policy or a person allows it. A person
    must where the station may have ``forgotten`` (namespaces) what speaks against charging, or how much is allowed."""
    lost = [each for each in _SPEAK_AGAINST_CHARGING if each in forgotten]
    if not damage or (config.metering.after_damage is AfterDamage.CHARGE and not lost):
        return ""
    why = f", and what it had of {', '.join(lost)} cannot be read" if lost else ""
    return f"the ledger was damaged and is kept as {damage}{why}: `evsed ledger acknowledge` allows charging again"


def read_text(file: str) -> str:
    return Path(file).read_text()


def terms_of(config: Config, evse_id: int) -> Terms:
    """How the time and the kind of an EVSE are priced."""
    (evse,) = (each for each in config.evse if each.id == evse_id)
    kind = EvseKind.DC if evse.board.kind is BoardKind.DC else EvseKind.AC
    return Terms(config.station.time_zone, kind, config.price.time_policy.value)


def identity_of(build: Build) -> Identity:
    """What signed records say of this station."""
    station, metering = build.config.station, build.config.metering
    return Identity(
        product=f"{station.vendor} {station.model}",
        serial=station.serial,
        software_version=build.software_version,
        software_digest=digest(),
        charge_box=station.identity,
        token_form=metering.token_in_record.value,
        synchronised=metering.time_is_legal,
        format_version=metering.format_version.value,
    )


def seller_of(build: Build) -> Seller:
    """What receipts say of this station."""
    config = build.config
    operator, station = config.operator, config.station
    return Seller(
        operator=Operator(
            name=operator.name, address=operator.address, contact=operator.contact, vat_id=operator.vat_id
        ),
        identity=station.identity,
        vendor=station.vendor,
        model=station.model,
        serial=station.serial,
        software=Software(version=build.software_version, checksum=digest()),
        time_zone=station.time_zone,
    )


def key_path(config: Config) -> Path:
    return config.station.data_dir / "metering.key"
