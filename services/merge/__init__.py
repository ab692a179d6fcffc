"""Pure numerics: N flat parameter sets in, one out. No I/O, no network, no chain; numpy alone."""
