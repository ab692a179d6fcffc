"""What a license is counted in: one feature for each type of node."""

FEATURE_OF_ROLE = {"sn": "SN", "sl": "SL", "swop": "SWOP", "swci": "SWCI"}
FEATURES = tuple(FEATURE_OF_ROLE.values())

# In a node's data directory: how its license stands, for whoever looks from outside.
NOTE = "license.json"
