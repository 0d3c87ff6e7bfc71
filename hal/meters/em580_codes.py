"""Carlo Gavazzi EM580: where its transaction registers lie, and what goes into them. Pure.

Charter: register addresses and codes of the signing side, a ``RecordRequest`` as register writes, and
whether the bytes of a file and of a key have the shape of one. Nothing is computed from a record's
content. The live values are in ``carlo_gavazzi_em580.toml``.

Addresses are wire addresses (document number - 300001). Text is two characters per register, high byte
first, ended by a zero, of which only the used part is written. 64-bit values are least significant word
first. Source: the EM580 Modbus document as used by EVerest's driver CarloGavazzi_EM580 (2026).
**Not yet traced on a device**; unsure, since no source shows it: which of the four flag registers takes
which family (here the order of the OCMF specification), what ``CLOCK_SYNC`` reads when the clock is set
(here: anything but 0), whether a corrupted record is cleared by the same write as a confirmed one, and
whether a tariff text may be written in two parts.
"""

from __future__ import annotations

from collections.abc import Sequence

from hal.ports import BadReply, RecordFailed, RecordFault, RecordRequest

SIGNATURE_TYPE = 0x24FF
KEY_DER = 0x2600
TARIFF_TEXT = 0x6900
ID_ASSIGNED = 0x7000
ID_LEVEL = 0x7001
ID_FLAGS = 0x7002  # four
ID_TYPE = 0x7006
ID_DATA = 0x7007
POINT_ID_TYPE = 0x701B
POINT_ID = 0x701C
CLOCK_ZONE = 0x7031  # minutes, s16
CLOCK_UTC = 0x7032  # seconds since 1970, s64
MODALITY = 0x7036
COMMAND = 0x7040
CLOCK_SYNC = 0x7060
STATE = 0x7100
FILE_SIZE = 0x7101  # registers
FILE = 0x7110

FILE_MAX_REGISTERS = 2_031
READ_MAX_REGISTERS = 125
WRITE_MAX_REGISTERS = 123

COMMAND_BEGIN, COMMAND_END, COMMAND_ABORT = ord("B"), ord("E"), ord("A")
STATE_NOT_READY = 0
CHARGE_VEHICLE = 0  # modality

KEY_REGISTERS = {0: 46, 1: 62}  # signature type: 256 bits, 384 bits
SIGNATURE_NONE = 2

# One less than the registers hold: the zero that ends a text needs its place.
_ID_MAX_CHARS = 39
_TARIFF_MAX_CHARS = 251

_LEVELS = {
    name: code
    for code, name in enumerate(
        ["NONE", "HEARSAY", "TRUSTED", "VERIFIED", "CERTIFIED", "SECURE", "MISMATCH", "INVALID", "OUTDATED", "UNKNOWN"]
    )
}
_TYPES = {
    "NONE": 0,
    "DENIED": 1,
    "UNDEFINED": 2,
    "ISO14443": 10,
    "ISO15693": 11,
    "EMAID": 20,
    "EVCCID": 21,
    "EVCOID": 30,
    "ISO7812": 40,
    "CARD_TXN_NR": 50,
    "CENTRAL": 60,
    "CENTRAL_1": 61,
    "CENTRAL_2": 62,
    "LOCAL": 70,
    "LOCAL_1": 71,
    "LOCAL_2": 72,
    "PHONE_NUMBER": 80,
    "KEY_CODE": 90,
}
_FLAG_FAMILIES: tuple[dict[str, int], ...] = (  # in the order of their registers
    {"RFID_NONE": 0, "RFID_PLAIN": 1, "RFID_RELATED": 2, "RFID_PSK": 3},
    {
        "OCPP_NONE": 0,
        "OCPP_RS": 1,
        "OCPP_AUTH": 2,
        "OCPP_RS_TLS": 3,
        "OCPP_AUTH_TLS": 4,
        "OCPP_CACHE": 5,
        "OCPP_WHITELIST": 6,
        "OCPP_CERTIFIED": 7,
    },
    {"ISO15118_NONE": 0, "ISO15118_PNC": 1},
    {"PLMN_NONE": 0, "PLMN_RING": 1, "PLMN_SMS": 2},
)
_POINT_TYPES = {"EVSEID": 0, "CBIDC": 1}

Write = tuple[int, tuple[int, ...]]  # address, words


# ------------------------------------------------------------------------------------------ writing


def request_writes(device: str, request: RecordRequest) -> list[Write]:
    """The writes that describe the record to be begun. Raises ``RecordFailed`` (TEXT) for what does not fit."""
    return [
        (ID_ASSIGNED, (int(request.id_assigned),)),
        (ID_LEVEL, (_code(device, "identification level", _LEVELS, request.id_level),)),
        (ID_FLAGS, _flag_codes(device, request.id_flags)),
        (ID_TYPE, (_code(device, "identification type", _TYPES, request.id_type),)),
        (ID_DATA, _text(device, "identification", request.id_data, _ID_MAX_CHARS)),
        (POINT_ID_TYPE, (_code(device, "charge point id type", _POINT_TYPES, request.point_id_type),)),
        (POINT_ID, _text(device, "charge point id", request.point_id, _ID_MAX_CHARS)),
        *_pieces(TARIFF_TEXT, _text(device, "tariff text", request.tariff_text, _TARIFF_MAX_CHARS)),
        (MODALITY, (CHARGE_VEHICLE,)),
    ]


def clock_writes(utc_s: int, zone_minutes: int) -> list[Write]:
    """The writes that set the meter's clock: the zone first, so that no moment has the new time in the old zone."""
    low_word_first = tuple(utc_s >> shift & 0xFFFF for shift in (0, 16, 32, 48))
    return [(CLOCK_ZONE, (zone_minutes & 0xFFFF,)), (CLOCK_UTC, low_word_first)]


def _code(device: str, what: str, codes: dict[str, int], name: str) -> int:
    if name not in codes:
        raise RecordFailed(device, RecordFault.TEXT, f"{what} {name!r} is not one of {', '.join(codes)}")
    return codes[name]


def _flag_codes(device: str, flags: tuple[str, ...]) -> tuple[int, ...]:
    """One code for each family's register; a family without a flag is 0, which is its NONE."""
    codes = [0] * len(_FLAG_FAMILIES)
    taken: set[int] = set()
    for flag in flags:
        place = next((place for place, family in enumerate(_FLAG_FAMILIES) if flag in family), None)
        if place is None or place in taken:
            raise RecordFailed(device, RecordFault.TEXT, f"identification flag {flag!r} is unknown or one too many")
        taken.add(place)
        codes[place] = _FLAG_FAMILIES[place][flag]
    return tuple(codes)


def _text(device: str, what: str, text: str, max_chars: int) -> tuple[int, ...]:
    if len(text) > max_chars:
        raise RecordFailed(device, RecordFault.TEXT, f"{what} has {len(text)} characters, the meter takes {max_chars}")
    # A bar would part the record for every verifier; other characters are beyond what text registers hold.
    if not (text.isascii() and (text.isprintable() or not text)) or "|" in text:
        raise RecordFailed(device, RecordFault.TEXT, f"{what} is not printable ASCII without a bar: {text!r}")
    data = text.encode("ascii") + b"\0"
    data += b"\0" * (len(data) % 2)
    return tuple(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))


def _pieces(address: int, words: tuple[int, ...]) -> list[Write]:
    return [(address + at, words[at : at + WRITE_MAX_REGISTERS]) for at in range(0, len(words), WRITE_MAX_REGISTERS)]


# ------------------------------------------------------------------------------------------ reading


def file_reads(size_registers: int) -> list[tuple[int, int]]:
    """The reads (address, count) that bring a file.

    No two neighbours have the same count: RTU has no transaction number, and a late piece must not pass
    for the next one.
    """
    reads: list[tuple[int, int]] = []
    at = 0
    while at < size_registers:
        count = min(READ_MAX_REGISTERS, size_registers - at)
        if reads and count == reads[-1][1]:
            count -= 1
        reads.append((FILE + at, count))
        at += count
    return reads


def file_text(device: str, words: Sequence[int]) -> bytes:
    """The record in a file's registers, without the zeros that end the text.

    Raises ``BadReply`` for what cannot be a whole record; content and signature are not looked at.
    """
    text = as_bytes(words).rstrip(b"\0")
    sections = text.split(b"|")
    whole = len(sections) == 3 and sections[0] == b"OCMF" and all(s[:1] + s[-1:] == b"{}" for s in sections[1:])
    if not whole or b"\0" in text:
        raise BadReply(device, f"the file of {len(words)} registers is not a whole record")
    return text


def key_der(device: str, words: Sequence[int]) -> bytes:
    """The key in its block of registers: as long as its own DER header says, at most a byte less than the block."""
    block = as_bytes(words)
    length = 2 + block[1]
    if block[0] != 0x30 or not len(block) - 1 <= length <= len(block):  # a SEQUENCE of less than 128 bytes
        raise BadReply(device, f"the public key is no DER: {block[:4].hex()}...")
    return block[:length]


def as_bytes(words: Sequence[int]) -> bytes:
    return b"".join(word.to_bytes(2) for word in words)
