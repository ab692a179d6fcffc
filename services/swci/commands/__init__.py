"""The commands of SWCI: one dataclass each, with its syntax, its help and what it does."""
