"""Makes a start-up kit for each organization from one file that lists organizations and nodes."""
