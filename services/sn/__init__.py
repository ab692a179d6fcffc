"""The SN: holds the chain, and tells everyone what the rounds come to."""
