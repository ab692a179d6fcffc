"""SWOP: carries out tasks on its host, within the limits that the host's owner has set."""
