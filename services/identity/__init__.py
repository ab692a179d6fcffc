"""Certificates, SPIFFE identities, roles, and the TLS that comes from them."""
