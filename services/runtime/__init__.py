"""What every node process needs around its own work: logs, settings, readiness, an orderly stop."""
