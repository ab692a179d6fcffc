"""Tasks as their authors write them: YAML, read with line numbers and checked against the documented schema."""
