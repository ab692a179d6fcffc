"""Accounts sign what a chain accepts, and their keys stay private."""

import stat
from pathlib import Path

import pytest
from eth.vm.forks.london.transactions import LondonTransactionBuilder

from services.chain.account import DATA_LIMIT_BYTES, Account, require_fits, write_private
from services.errors import ChainError, StorageError

CHAIN_ID = 1701


@pytest.fixture
def account() -> Account:
    return Account(bytes(range(1, 33)))


@pytest.mark.parametrize("to", [None, "0x" + "ab" * 20])
@pytest.mark.parametrize("nonce", [0, 1, 127, 128, 2**40])
def test_what_it_signs_is_decoded_by_another_implementation(account: Account, nonce: int, to: str | None) -> None:
    signed = account.sign(nonce, CHAIN_ID, to, b"data")

    decoded = LondonTransactionBuilder.decode(signed.raw)

    decoded.validate()
    assert decoded.sender.hex() == account.address[2:].lower()
    assert (decoded.nonce, decoded.chain_id, decoded.data) == (nonce, CHAIN_ID, b"data")
    assert decoded.to == (bytes.fromhex(to[2:]) if to else b"")
    assert "0x" + decoded.hash.hex() == signed.hash


def test_signatures_with_leading_zeros_are_valid_too(account: Account) -> None:
    lengths = set()
    for nonce in range(1000):
        decoded = LondonTransactionBuilder.decode(account.sign(nonce, CHAIN_ID, None, b"").raw)
        lengths.add((decoded.r.bit_length() + 7) // 8)
        assert decoded.sender.hex() == account.address[2:].lower()
    assert min(lengths) < 32


def test_the_same_arguments_sign_to_the_same_transaction(account: Account) -> None:
    assert account.sign(3, CHAIN_ID, None, b"x") == account.sign(3, CHAIN_ID, None, b"x")


def test_an_account_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "account.key"

    made = Account.load_or_create(path)

    assert Account.load_or_create(path).address == made.address
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "account.key"
    path.write_text("not a key")

    with pytest.raises(ChainError, match=r"account\.key"):
        Account.load_or_create(path)


def test_a_key_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError):
        Account.load_or_create(tmp_path / "file" / "account.key")


def test_a_secret_left_half_written_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "password.new").write_text("half")

    write_private(tmp_path / "password", "whole")

    assert (tmp_path / "password").read_text() == "whole"


def test_the_longest_transaction_fits_and_one_byte_more_does_not() -> None:
    require_fits(bytes(DATA_LIMIT_BYTES))
    with pytest.raises(ChainError, match="too long"):
        require_fits(bytes(DATA_LIMIT_BYTES + 1))
