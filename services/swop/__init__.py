"""SWOP: does on its host what tasks ask for, within what the host's owner allows."""
