"""The REST API for administrators' programs. Loaded when one first asks."""
