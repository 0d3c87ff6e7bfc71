"""Our records and the published ones, judged by verifiers that others wrote.

Three of them: openssl (another program), pyocmf (another reader), @road-labs/ocmf (another language and
other mathematics). Each is skipped where it is absent; ``make`` puts the npm package into .venv/npm.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any, Final

import pytest

from agent.ocmf.container import SafeValue, write_container
from agent.ocmf.curves import SignatureState
from agent.ocmf.parse import parse
from agent.ocmf.public_key import parse_key
from agent.ocmf.record import Draft, Identification, split_readings
from agent.ocmf.verify import verify
from tests.unit.ocmf.samples import draft, reading, sealed, signing_key, vector, vector_files

ROOT: Final = Path(__file__).parents[2]
MODULES: Final = ROOT / ".venv" / "npm" / "node_modules"
SCRIPT: Final = Path(__file__).with_name("verify.cjs")
BRAINPOOL: Final = "06"
RAW: Final = "14"  # r and s side by side, bare X,Y: field practice that openssl and the packages do not read


def long_draft() -> Draft:
    return draft(reading("B"), *(reading("T", n, 13_000_000 + n) for n in range(1, 9)), reading("E", 60, 23_000_000))


OURS: Final = {
    "whole": draft(),
    "ten readings": long_draft(),
    "nobody": draft(identification=Identification()),
    "no tariff": draft(tariff_text="", controller_firmware=""),
    "bare": draft(**dict.fromkeys(("gateway_serial", "gateway_identification", "charge_point_id"), "")),
    "dc": draft(reading("B", current_type="DC"), reading("E", 9, current_type="DC")),
    "no energy": draft(reading("B"), reading("E", 1)),
    "power failure": draft(reading("B"), reading("P", 5)),
    "version 1.4": draft(format_version="1.4"),
    "quotes": draft(tariff_text='"0.39" \\ {EUR} <&>'),
}


def cases() -> list[Any]:
    """(record, key in hex, whether the signature is good) of ours, of ours changed, and of the published ones."""
    found = []
    for name, one in OURS.items():
        record = sealed(one)
        found.append(pytest.param(record, signing_key().public_hex, True, id=name))
        found.append(
            pytest.param(record.replace(b'"T7"', b'"T8"'), signing_key().public_hex, False, id=f"{name}, changed")
        )
    return found


def published(*without: str) -> list[Any]:
    return [one for one in vector_files() if str(one.id)[:2] not in without]


def published_case(file: Path) -> tuple[bytes, str, bool]:
    found = vector(file)
    key = parse_key(found["public_key"])
    return found["record"].encode(), key.der.hex() if key.der else "", found["signature_valid"]


def ours(record: bytes, key: str) -> SignatureState:
    return verify(record, parse_key(key)).signature.state


# ------------------------------------------------------------------------------------------- openssl


def openssl(record: bytes, key: str, directory: Path) -> bool:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl program")
    found = parse(record)
    (directory / "key.der").write_bytes(bytes.fromhex(key))
    (directory / "signature").write_bytes(bytes.fromhex(found.signature.data))
    command = [program, "dgst", "-sha256", "-keyform", "DER", "-verify", "key.der", "-signature", "signature"]
    done = subprocess.run(command, input=found.payload, cwd=directory, capture_output=True, timeout=10, check=False)
    return done.returncode == 0


@pytest.mark.parametrize(("record", "key", "good"), cases())
def test_openssl_judges_ours_as_we_do(record: bytes, key: str, good: bool, tmp_path: Path) -> None:
    assert ours(record, key) is (SignatureState.VALID if good else SignatureState.INVALID)
    assert openssl(record, key, tmp_path) is good


@pytest.mark.parametrize("file", published(RAW))
def test_openssl_judges_published_records_as_we_do(file: Path, tmp_path: Path) -> None:
    record, key, good = published_case(file)
    assert (ours(record, key) is SignatureState.VALID) is good
    assert openssl(record, key, tmp_path) is good


# -------------------------------------------------------------------------------------------- pyocmf


def pyocmf(record: bytes, key: str, strict: bool) -> bool:
    package = pytest.importorskip("pyocmf", reason="pyocmf is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of what makers do; the verdict is what counts
        found = package.OCMF.from_string(record.decode(), strict=strict)
        try:
            return bool(found.verify_signature(package.PublicKey.from_string(key)))
        except package.SignatureVerificationError:
            return False


@pytest.mark.parametrize(("record", "key", "good"), cases())
def test_pyocmf_judges_ours_as_we_do(record: bytes, key: str, good: bool) -> None:
    """Strictly: ours must not need its tolerance."""
    assert pyocmf(record, key, strict=True) is good


@pytest.mark.parametrize("file", published(RAW))
def test_pyocmf_judges_published_records_as_we_do(file: Path) -> None:
    record, key, good = published_case(file)
    assert pyocmf(record, key, strict=False) is good


def issues(record: bytes) -> set[str]:
    package = pytest.importorskip("pyocmf", reason="pyocmf is not installed")
    payload = package.OCMF.from_string(record.decode(), strict=True).payload
    return {issue.code.name for issue in package.check_eichrecht_payload(payload) if issue.severity.name == "ERROR"}


@pytest.mark.parametrize("name", [name for name in OURS if name != "bare"])
def test_pyocmf_finds_ours_billable_but_for_the_clock(name: str) -> None:
    assert issues(sealed(OURS[name])) <= {"TIME_SYNC"}, "an informative clock is all that it may miss"


@pytest.mark.parametrize(
    "end", [reading("E", 60, 1), reading("E", -1), reading("E", 60, status="M"), reading("E", 60, error_flags="E")]
)
def test_pyocmf_and_we_refuse_the_same(end: Any) -> None:
    record = sealed(draft(reading("B"), end))
    assert not verify(record, None).billable
    assert issues(record) - {"TIME_SYNC"}


def test_pyocmf_reads_our_container(tmp_path: Path) -> None:
    package = pytest.importorskip("pyocmf", reason="pyocmf is not installed")
    parts = split_readings(draft(reading("B"), *(reading("T", n) for n in range(1, 14)), reading("E", 60)))
    values = [
        SafeValue(signed=sealed(part, f"T{at}"), public_key=signing_key().public_hex, transaction_id=1)
        for at, part in enumerate(parts)
    ]
    (tmp_path / "records.xml").write_bytes(write_container(values))
    records = package.OcmfContainer.from_xml(tmp_path / "records.xml").entries
    assert [one.verify_signature() for one in records] == [True] * len(parts)


# ---------------------------------------------------------------------------------------------- node


@functools.cache
def node(records: tuple[tuple[str, str], ...]) -> list[dict[str, Any]]:
    """All records in one go: starting the interpreter is what takes the time."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("there is no node program")
    if not (MODULES / "@road-labs" / "ocmf").is_dir():
        pytest.skip("@road-labs/ocmf is not in .venv/npm")
    asked = json.dumps([{"record": record, "key": key} for record, key in records])
    command = [program, str(SCRIPT), str(MODULES.parent)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=60, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_node_judges_ours_as_we_do() -> None:
    asked = [case.values for case in cases()]
    found = node(tuple((record.decode(), key) for record, key, _ in asked))
    assert [one["verified"] for one in found] == [good for _, _, good in asked], found


def test_node_judges_published_records_as_we_do() -> None:
    files = [one.values[0] for one in published(RAW, BRAINPOOL)]
    if not files[0].is_file():
        pytest.skip("the published vectors are not beside us")
    asked = [published_case(file) for file in files]
    found = node(tuple((record.decode(), key) for record, key, _ in asked))
    assert [one["verified"] for one in found] == [good for _, _, good in asked], found
