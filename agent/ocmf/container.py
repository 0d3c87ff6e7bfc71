"""The XML file that transparency software opens: records with their keys.

Charter: reads and writes ``<values>`` with ``<value>``, ``<signedData>`` and ``<publicKey>``; records and keys stay
the bytes and texts they are. The file comes from a stranger: UTF-8 only, no document type and so no
entities, and limits on size, depth and count. Pure. Whatever the bytes, only ``OcmfError`` is raised.

Sources: the SAFE container as its transparency software reads it and as published records use it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from agent.ocmf.errors import OcmfError
from agent.ocmf.parse import RECORD_MAX_BYTES

FILE_MAX_BYTES: Final = 4 * 1024 * 1024
_VALUES_MAX: Final = 1_000
_DEPTH_MAX: Final = 8
_KEY_MAX_CHARS: Final = 8_192
# Hex doubles a record; white space comes on top.
_TEXT_MAX_CHARS: Final = 3 * RECORD_MAX_BYTES
_CONTEXT: Final = re.compile(r"[A-Za-z.]{1,40}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_CONTROLS: Final = re.compile(rb"[\x00-\x1f]")
_PIECES: Final = ("signedData", "publicKey")


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeValue:
    """One record of a container. ``public_key`` is as written (hex or Base64), empty where there is none."""

    signed: bytes
    public_key: str = ""
    transaction_id: int | None = None
    context: str = ""


def is_container(data: bytes) -> bool:
    """Whether this looks like XML at all."""
    return data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def read_container(data: bytes) -> tuple[SafeValue, ...]:
    """The records of a container, in order."""
    if len(data) > FILE_MAX_BYTES:
        raise OcmfError("container", f"it has more than {FILE_MAX_BYTES} bytes", "give a smaller file")
    try:
        data.decode("utf-8")  # a byte order mark would switch the parser to another encoding all the same
    except UnicodeDecodeError as error:
        raise OcmfError("container", "it is not UTF-8", "save it as UTF-8", offset=error.start) from error
    reader = _Reader()
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        offset = max(0, reader.parser.ErrorByteIndex)
        raise OcmfError(
            "container", f"it is not XML ({error})", "give the file as it was made", offset=offset
        ) from error
    if not reader.values:
        raise OcmfError("container", "there is no <value> with <signedData> in it", "give a file with records")
    return tuple(reader.values)


def write_container(values: Iterable[SafeValue]) -> bytes:
    """A container with the records as plain text and the keys in hex."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<values>"]
    for value in values:
        if _CONTROLS.search(value.signed):
            raise ValueError("a record with control characters does not survive XML as plain text")
        if value.public_key and not _HEX.fullmatch(value.public_key):
            raise ValueError("public_key is not hex")
        # No white space around the data: to some readers it is part of it.
        lines += [
            f"  <value{_attributes(value)}>",
            f'    <signedData format="OCMF" encoding="plain">{_escaped(value.signed.decode("utf-8"))}</signedData>',
            *([f'    <publicKey encoding="hex">{value.public_key}</publicKey>'] if value.public_key else []),
            "  </value>",
        ]
    return "\n".join([*lines, "</values>", ""]).encode("utf-8")


def _attributes(value: SafeValue) -> str:
    text = ""
    if value.transaction_id is not None:
        if value.transaction_id < 0:
            raise ValueError("transaction_id is negative")
        text += f' transactionId="{value.transaction_id}"'
    if value.context:
        if not _CONTEXT.fullmatch(value.context):
            raise ValueError(f"context is {value.context!r}, expected something like Transaction.Begin")
        text += f' context="{value.context}"'
    return text


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# ------------------------------------------------------------------------------------------- reading


@dataclass(slots=True)
class _Open:
    """A ``<value>`` being read: its attributes, and of each piece its attributes and text."""

    attributes: dict[str, str]
    pieces: dict[str, tuple[dict[str, str], list[str]]] = field(default_factory=dict)
    length_chars: int = 0


class _Reader:
    """Handlers of one parser. Whatever they raise ends the parsing."""

    def __init__(self) -> None:
        # UTF-8 whatever the file says of itself: other encodings are a way around every check.
        self.parser = expat.ParserCreate("UTF-8")
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.values: list[SafeValue] = []
        self._path: list[str] = []
        self._open: _Open | None = None

    def _refuse(self, problem: str, remedy: str, key: str = "") -> OcmfError:
        return OcmfError("container", problem, remedy, key=key, offset=max(0, self.parser.CurrentByteIndex))

    def _doctype(self, *_: object) -> None:
        raise self._refuse("it has a document type", "remove it: no container needs one")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        self._path.append(name)
        if len(self._path) > _DEPTH_MAX:
            raise self._refuse(f"it is nested deeper than {_DEPTH_MAX}", "no container needs that")
        if name == "value":
            if self._open is not None:
                raise self._refuse("a <value> is inside another", "give the file as it was made")
            if len(self.values) >= _VALUES_MAX:
                raise self._refuse(f"it has more than {_VALUES_MAX} records", "split it")
            self._open = _Open(attributes)
        elif name in _PIECES and self._open is not None:
            if name in self._open.pieces:
                raise self._refuse("it is there twice in one <value>", "do not trust the file", name)
            self._open.pieces[name] = (attributes, [])

    def _text(self, text: str) -> None:
        if self._open is None or self._path[-1] not in self._open.pieces:
            return
        self._open.length_chars += len(text)
        if self._open.length_chars > _TEXT_MAX_CHARS:
            raise self._refuse(f"one <value> has more than {_TEXT_MAX_CHARS} characters", "give a smaller record")
        self._open.pieces[self._path[-1]][1].append(text)

    def _end(self, *_: object) -> None:
        if self._path.pop() == "value" and self._open is not None:
            done, self._open = self._open, None
            if "signedData" in done.pieces:
                self.values.append(self._value(done))

    def _value(self, done: _Open) -> SafeValue:
        attributes, texts = done.pieces["signedData"]
        form = attributes.get("format", "OCMF")
        if form.upper() != "OCMF":
            raise self._refuse(f"the data is {form[:20]!r}, not OCMF", "use a verifier of that format", "signedData")
        _, key_texts = done.pieces.get("publicKey", ({}, []))
        number = done.attributes.get("transactionId", "").strip()
        if number and not _NUMBER.fullmatch(number):
            raise self._refuse(f"it is {number[:20]!r}, not a number", "give it a whole number", "transactionId")
        key = "".join("".join(key_texts).split())
        if len(key) > _KEY_MAX_CHARS:
            raise self._refuse(f"it is longer than {_KEY_MAX_CHARS}", "give the public key alone", "publicKey")
        return SafeValue(
            signed=self._signed("".join(texts).strip(), attributes.get("encoding", "plain").strip().lower()),
            public_key=key,
            transaction_id=int(number) if number else None,
            context=done.attributes.get("context", "")[:60],
        )

    def _signed(self, text: str, encoding: str) -> bytes:
        dense = "".join(text.split())
        if encoding in ("plain", ""):
            return text.encode("utf-8")
        if encoding == "hex" and _HEX.fullmatch(dense):
            return bytes.fromhex(dense)
        if encoding == "base64":
            try:
                return base64.b64decode(dense, validate=True)
            except (binascii.Error, ValueError):
                pass
        raise self._refuse(f"it is not {encoding[:20]!r} as it says", "give the file as it was made", "signedData")
