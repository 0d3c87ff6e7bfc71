"""Which of the roots that share a name is trusted at an attempt."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from agent.ocpp.endpoint import TlsSettings
from agent.ocpp.root_turns import in_turn
from tests.unit.firmware.bundle.pki import make_root

OLD, NEWER, NEWEST = (make_root(name).certificate_pem for name in ("CSMS Root", "CSMS  root", "CSMS Root"))
OTHER = make_root("Another").certificate_pem


def test_all_of_them_come_first_and_then_one_of_each_name_the_newest_first() -> None:
    turns = [in_turn([OLD, OTHER, NEWER, NEWEST], turn) for turn in range(6)]
    assert turns == [None, [NEWEST, OTHER], [NEWER, OTHER], [OLD, OTHER], None, [NEWEST, OTHER]]


@pytest.mark.parametrize("pems", [[OLD, OTHER], [OLD, OTHER, OLD], [OLD + OTHER, OLD], []])
def test_where_no_two_share_a_name_there_are_no_turns(pems: list[str]) -> None:
    assert [in_turn(pems, turn) for turn in range(4)] == [None] * 4


def trusted(settings: TlsSettings) -> list[str]:
    return [ssl.DER_cert_to_PEM_cert(each) for each in settings.context().get_ca_certs(binary_form=True)]


def test_the_roots_of_the_file_take_turns_with_installed_ones(tmp_path: Path) -> None:
    """Whatever else stands in the file."""
    file = tmp_path / "ca.pem"
    file.write_bytes(b"# the root of f\xfcnf\n" + OLD.encode() + OTHER.encode())
    turns = [set(trusted(TlsSettings(file, roots=(NEWEST,), turn=turn))) for turn in range(3)]
    assert turns == [{OLD, OTHER, NEWEST}, {NEWEST, OTHER}, {OLD, OTHER}]


def test_a_root_that_cannot_be_read_ends_the_turns_and_not_the_trust_in_the_others(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(OLD)
    assert set(trusted(TlsSettings(file, roots=("no certificate", NEWEST), turn=1))) == {OLD, NEWEST}
    with pytest.raises(OSError):
        TlsSettings(tmp_path / "missing", roots=(NEWEST,), turn=1).context()
