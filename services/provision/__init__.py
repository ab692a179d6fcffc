"""From one file that names organizations and nodes to a start-up kit for each organization."""
