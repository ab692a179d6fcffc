"""How an older database becomes one of today. Loaded only where one is found."""
