"""The chain's files in a node's data directory."""

from pathlib import Path

ACCOUNT_KEY = Path("account.key")
EMBEDDED_CHAIN = Path("embedded", "chain.sqlite")
GETH_DIR = Path("eth")
GETH_GENESIS = GETH_DIR / "genesis.json"  # exists once geth's database was made from it
GETH_FINAL = GETH_DIR / "final.json"
GETH_LOG = Path("log", "geth.log")


def has_geth_chain(data_dir: Path) -> bool:
    return (data_dir / GETH_GENESIS).is_file()


def has_embedded_chain(data_dir: Path) -> bool:
    return (data_dir / EMBEDDED_CHAIN).is_file()
