"""The features that a license counts: one for each type of node."""

FEATURE_OF_ROLE = {"sn": "SN", "sl": "SL", "swop": "SWOP", "swci": "SWCI"}
FEATURES = tuple(FEATURE_OF_ROLE.values())

# In a node's data directory: the state of its license, for observers such as `swarm status`.
NOTE = "license.json"
