"""The REST API for administrators' programs. Loaded on the first request."""
