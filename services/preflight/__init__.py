"""Checks a host before a node runs on it: what would fail later, and what to do about it."""
