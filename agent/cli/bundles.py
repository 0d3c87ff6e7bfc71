"""``evsed bundle create``, ``sign``, ``inspect`` and ``verify``: bundles at the maker's desk.

Charter: the command line to ``agent.firmware.bundle``, tables for people, JSON for machines. No station is needed, and
none is touched. What stands in a bundle is a stranger's text until its signature holds; the format lets nothing but
printable ASCII in. Exit 0: good; 1: the bundle, the description or the signer is not; 2: a file cannot be read or the
command line makes no sense.

The parsed arguments. ``create``: ``description``, ``out`` (paths). ``sign``: ``bundle``, ``chain`` (paths), ``key``
(path or None), ``run`` (text or None: a command with {in} and {out}), ``algorithm`` (text or None). ``inspect``:
``bundle``, ``json``. ``verify``: ``bundle``, ``roots`` (paths), ``revoked`` (path or None), ``threshold`` (int),
``compatible`` (text or None), ``hardware``, ``epoch`` (int or None), ``pkcs1``, ``json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.cli.bar import OnBytes, bar
from agent.firmware.bundle.chunks import content_of
from agent.firmware.bundle.head import Head, judge_head, read_head
from agent.firmware.bundle.layout import HEADER_BYTES, align_up
from agent.firmware.bundle.parse import parse_manifest
from agent.firmware.errors import Refusal, UpdateRefused
from agent.firmware.manifest import Manifest, Payload
from agent.firmware.storage import FileStorage, StoredFile, opened

if TYPE_CHECKING:
    from agent.firmware.bundle.signatures import Signature
    from agent.firmware.bundle.trust import TrustPolicy

EXIT_WRONG: Final = 1
EXIT_USAGE: Final = 2
_FILE_BYTES_MAX: Final = 1024 * 1024
_MIB: Final = 1024 * 1024


class _Refused(Exception):
    """What the person should change; the command ends."""

    def __init__(self, exit_code: int, said: str) -> None:
        super().__init__(said)
        self.exit_code = exit_code


def _run(action: Callable[[argparse.Namespace], None], parsed: argparse.Namespace) -> int:
    from agent.firmware.bundle.description import DescriptionWrong
    from agent.firmware.bundle.make import NotMade

    try:
        action(parsed)
    except UpdateRefused as error:
        if getattr(parsed, "json", False):
            refusal, where, why = str(error.refusal), error.where, error.why
            print(json.dumps({"good": False, "refusal": refusal, "where": where, "why": why}))
        else:
            print(f"evsed: {error.refusal}: {error}", file=sys.stderr)
        return EXIT_WRONG
    except (DescriptionWrong, NotMade) as error:
        print("\n".join(f"evsed: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return EXIT_WRONG
    except OSError as error:
        print(f"evsed: {error.filename or 'file'}: {error.strerror}", file=sys.stderr)
        return EXIT_USAGE
    except _Refused as error:
        print(f"evsed: {error}", file=sys.stderr)
        return error.exit_code
    return 0


# ------------------------------------------------------------------------------------ create and sign


def create(parsed: argparse.Namespace) -> int:
    """Make an unsigned bundle as a description says."""
    return _run(_create, parsed)


def _create(parsed: argparse.Namespace) -> None:
    from agent.firmware.bundle import make
    from agent.firmware.bundle.description import load_description

    description = load_description(Path(parsed.description), int(time.time() * 1000))
    with bar("making") as show:
        manifest = make.create(description, Path(parsed.out), show)
    print(f"{parsed.out}: {_bytes(manifest.total_size)}, {len(manifest.payloads)} payloads, not signed yet")
    print(f"  next: evsed bundle sign {parsed.out} --key KEY --chain CHAIN")


def sign(parsed: argparse.Namespace) -> int:
    """Add a signature, by a key in a file or by a command."""
    return _run(_sign, parsed)


def _sign(parsed: argparse.Namespace) -> None:
    from agent.firmware.bundle import sign as signing
    from agent.firmware.bundle.signatures import Algorithm

    if (parsed.key is None) == (parsed.run is None):
        raise _Refused(EXIT_USAGE, "sign: give either a key file (--key) or a command (--command)")
    try:
        algorithm = None if parsed.algorithm is None else Algorithm(parsed.algorithm)
    except ValueError as error:
        raise _Refused(EXIT_USAGE, f"sign: --algorithm is one of {', '.join(map(str, Algorithm))}") from error
    bundle, chain = Path(parsed.bundle), _read(parsed.chain)
    if parsed.key is not None:
        signing.sign(bundle, _read(parsed.key), chain, algorithm)
    else:
        signing.sign_by_command(bundle, parsed.run, chain, algorithm)
    with _opened(bundle) as file:
        entries = read_head(file).signatures
    print(f"{bundle}: signed by {_signer(entries[-1])['name']} ({entries[-1].algorithm}), {len(entries)} in all")


def _read(path: Path) -> bytes:
    with Path(path).open("rb") as file:
        data = file.read(_FILE_BYTES_MAX + 1)
    if len(data) > _FILE_BYTES_MAX:
        raise _Refused(EXIT_USAGE, f"{path}: more than {_FILE_BYTES_MAX} bytes")
    return data


@contextmanager
def _opened(path: Path) -> Iterator[StoredFile]:
    with opened(FileStorage().open(Path(path).resolve())) as file:
        yield file


# -------------------------------------------------------------------------------------------- inspect


def inspect(parsed: argparse.Namespace) -> int:
    """Show what a bundle says of itself; nobody vouches for it here."""
    return _run(_inspect, parsed)


def _inspect(parsed: argparse.Namespace) -> None:
    with _opened(parsed.bundle) as file:
        head = read_head(file)
    manifest = parse_manifest(head.manifest_bytes, head.header)
    if parsed.json:
        print(json.dumps(_plain(manifest, head)))
    else:
        _show(manifest, head)


def _plain(manifest: Manifest, head: Head) -> dict[str, Any]:
    needed = manifest.requires
    return {
        "version": manifest.version,
        "security_epoch": manifest.security_epoch,
        "built": _time(manifest.built_ms),
        "compatible": list(manifest.compatible),
        "hardware": {"min": manifest.hardware_min, "max": manifest.hardware_max},
        "requires": {"agent": needed.agent, "bootloader": needed.bootloader, "mcu": needed.mcu},
        "digest": manifest.digest.hex(),
        "total_size": manifest.total_size,
        "payloads": [_plain_payload(each) for each in manifest.payloads],
        "signatures": [_signer(each) for each in head.signatures],
    }


def _plain_payload(payload: Payload) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "name": payload.name,
        "type": str(payload.type),
        "target": payload.target,
        "size": payload.size,
        "stored_size": payload.stored_size,
        "chunks": len(payload.chunks),
        "chunk_size": payload.chunk_size,
        "compression": str(payload.compression),
    }
    if payload.files:
        plain["files"] = [{"path": each.path, "size": each.size, "mode": f"{each.mode:04o}"} for each in payload.files]
    if payload.version:
        plain["version"] = payload.version
    return plain


def _signer(entry: Signature) -> dict[str, str]:
    from agent.firmware.bundle.certificates import fingerprint, name_of, validity_ms

    leaf = entry.chain[0]
    first_ms, last_ms = validity_ms(leaf)
    return {
        "name": name_of(leaf),
        "algorithm": str(entry.algorithm),
        "fingerprint": fingerprint(leaf, "signature block"),
        "valid_from": _time(first_ms),
        "valid_to": _time(last_ms),
    }


def _show(manifest: Manifest, head: Head) -> None:
    needed = manifest.requires
    asks = [f"{name} {least}" for name in ("agent", "bootloader", "mcu") if (least := getattr(needed, name))]
    for name, value in (
        ("version", manifest.version),
        ("security epoch", str(manifest.security_epoch)),
        ("built", _time(manifest.built_ms)),
        ("for", f"{', '.join(manifest.compatible)}, revisions {manifest.hardware_min} to {manifest.hardware_max}"),
        ("needs first", ", ".join(asks) or "nothing"),
        ("size", _bytes(manifest.total_size)),
        ("digest", manifest.digest.hex()),
    ):
        print(f"{name:<15} {value}")
    rows: list[tuple[str, ...]] = [("payload", "type", "target", "content", "stored", "chunks", "packing")]
    for each in manifest.payloads:
        sizes = _bytes(each.size), _bytes(each.stored_size), str(len(each.chunks))
        kind = f"{each.type} {each.version}".strip() + (f", {len(each.files)} files" if each.files else "")
        rows.append((each.name, kind, each.target, *sizes, str(each.compression)))
    _table(rows)
    signers = [_signer(each) for each in head.signatures]
    if not signers:
        print("not signed")
        return
    columns = ("name", "algorithm", "valid_from", "valid_to", "fingerprint")
    _table(
        [
            ("signed by (not judged here)", *columns[1:]),
            *(tuple(each[column] for column in columns) for each in signers),
        ]
    )


def _table(rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right" if name in ("content", "stored", "chunks") else "left")
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    # A pipe has no width of its own; cutting columns there would lose what a script looks for.
    console = Console(width=None if sys.stdout.isatty() else 240, highlight=False)
    print()
    console.print(table)


# --------------------------------------------------------------------------------------------- verify


def verify(parsed: argparse.Namespace) -> int:
    """Judge head and every chunk as a device would, and what no device looks at."""
    return _run(_verify, parsed)


def _verify(parsed: argparse.Namespace) -> None:
    from agent.firmware.bundle.trust import JudgedTime

    policy = _policy(parsed)
    with _opened(parsed.bundle) as file:
        manifest = judge_head(file, policy, JudgedTime(int(time.time() * 1000), trusted=True))
        _check_device(manifest, parsed)
        began = time.monotonic()
        with bar("checking") as show:
            _check_payloads(file, manifest, show)
            _check_padding(file, manifest)
        rate = manifest.total_size / max(time.monotonic() - began, 1e-3) / _MIB
        signatures = len(read_head(file).signatures)
    if parsed.json:
        digest, size = manifest.digest.hex(), manifest.total_size
        plain = {"version": manifest.version, "digest": digest, "total_size": size, "signatures": signatures}
        print(json.dumps({"good": True, **plain}))
    else:
        checked = f"{_bytes(manifest.total_size)} checked at {rate:.0f} MiB/s"
        print(f"{parsed.bundle}: good; version {manifest.version}, {checked}")


def _policy(parsed: argparse.Namespace) -> TrustPolicy:
    from agent.firmware.bundle.trust import TrustPolicy, TrustStoreUnusable, load_revoked, load_roots

    if parsed.threshold < 1:
        raise _Refused(EXIT_USAGE, "verify: --threshold is 1 or more")
    try:
        revoked = frozenset[str]()
        if parsed.revoked is not None:
            revoked = load_revoked(_read(parsed.revoked).decode("utf-8", "replace"))
        return TrustPolicy(load_roots(_read(parsed.roots)), parsed.threshold, parsed.pkcs1, revoked)
    except TrustStoreUnusable as error:
        raise _Refused(EXIT_USAGE, str(error)) from error


def _check_device(manifest: Manifest, parsed: argparse.Namespace) -> None:
    from agent.firmware.bundle.device import check_compatible, check_epoch, check_hardware

    if parsed.compatible is not None:
        check_compatible(manifest, parsed.compatible)
    if parsed.hardware is not None:
        check_hardware(manifest, parsed.hardware)
    if parsed.epoch is not None:
        check_epoch(manifest, parsed.epoch)


def _check_payloads(file: StoredFile, manifest: Manifest, show: OnBytes) -> None:
    for payload in manifest.payloads:
        for index, (chunk, offset) in enumerate(zip(payload.chunks, payload.chunk_offsets(), strict=True)):
            stored = file.read(offset, chunk.stored_size)
            where = f"payload {payload.name}, chunk {index}"
            content_of(chunk, stored, payload.chunk_length(index), payload.compression, where)
            show(offset + len(stored), manifest.total_size)


def _check_padding(file: StoredFile, manifest: Manifest) -> None:
    """What no device reads must be zero: a bundle carries nothing that nobody vouches for."""
    header = read_head(file).header
    gaps = [
        (HEADER_BYTES + header.manifest_length, header.signatures_offset),
        (header.signatures_offset + header.signatures_length, manifest.payloads[0].offset),
    ]
    for payload in manifest.payloads[:-1]:
        end = payload.offset + payload.stored_size
        gaps.append((end, align_up(end)))
    for begin, end in gaps:
        if any(file.read(begin, end - begin)):
            why = "they are not all zero"
            raise UpdateRefused(Refusal.MALFORMED, f"padding: bytes {begin} to {end}", why, "make the bundle again")


# -------------------------------------------------------------------------------------------- showing


def _bytes(count: int) -> str:
    return f"{count} B" if count < 10 * 1024 else f"{count / _MIB:.2f} MiB"


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
