"""The SN's API: its definition, the stubs made from it, and what clients and servers of it share."""

import os

# Read once, when gRPC's core is loaded: it would write each failed handshake to stderr, past every log.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
