"""The SN's API: its definition, the code generated from it, and what its clients and servers share."""

import os

# gRPC reads this once, when its core is loaded. By default it writes each failed handshake to stderr, past all logs.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
