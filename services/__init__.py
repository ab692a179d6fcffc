"""The nodes of a swarm and what they share. Each folder is one concern; see docs/architecture.md."""

import os
import sys

# gRPC between nodes speaks TLS 1.3 only. grpcio has no option for that and reads this variable when it is first
# imported, hence here. The one TLS 1.2 suite it names needs a pre-shared key, which nobody has, so TLS 1.2 can
# never be agreed on; the suites of TLS 1.3 are not affected. services/identity/grpc_tls.py checks that it is set.
if "grpc" not in sys.modules:
    os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-PSK-CHACHA20-POLY1305"
