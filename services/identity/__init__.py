"""Certificates, SPIFFE identities, roles, and TLS based on them."""
