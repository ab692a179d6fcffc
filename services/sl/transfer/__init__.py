"""Parameter streams: kept, served, fetched."""
