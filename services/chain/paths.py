"""Where a node's data directory holds what belongs to its chain."""

from pathlib import Path

ACCOUNT_KEY = Path("account.key")
EMBEDDED_CHAIN = Path("embedded", "chain.sqlite")
GETH_DIR = Path("eth")
GETH_DATABASE = GETH_DIR / "geth" / "chaindata"
GETH_LOG = Path("log", "geth.log")


def has_geth_chain(data_dir: Path) -> bool:
    return (data_dir / GETH_DATABASE).is_dir()


def has_embedded_chain(data_dir: Path) -> bool:
    return (data_dir / EMBEDDED_CHAIN).is_file()
