"""Migrates older databases to today's schema. Loaded only if one is found."""
