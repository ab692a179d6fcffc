"""The administration of a license server in a browser: pages rendered here, refreshed by htmx."""
