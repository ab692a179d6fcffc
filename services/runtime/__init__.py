"""What every node process needs besides its own work: logs, settings, readiness, an orderly stop."""
