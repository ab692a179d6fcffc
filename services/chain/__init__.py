"""The swarm's chain: geth or an EVM in this process, and one gateway class per contract."""
