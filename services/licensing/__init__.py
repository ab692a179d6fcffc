"""The lease that every node holds on a seat of its license."""
