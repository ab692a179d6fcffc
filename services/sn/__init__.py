"""The SN: keeps the chain, and tells everyone the state of the rounds."""
