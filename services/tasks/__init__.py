"""Tasks as their authors write them: YAML, read with its lines, checked against the documented schema."""
