"""One node's round: what it decides, what it performs."""
