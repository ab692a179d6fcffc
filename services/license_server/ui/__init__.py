"""The browser UI of a license server: pages rendered on the server, refreshed by htmx."""
