"""Which roles may make which call, and how often. What is not listed is denied."""

from services.rpc.limits import CallLimit

NETWORK = "swarm.v1.Network"
TRAINING = "swarm.v1.Training"
ADMIN = "swarm.v1.Admin"
TASKS = "swarm.v1.Tasks"
RUNNERS = "swarm.v1.Runners"
PEERING = "swarm.v1.Peering"

EVERYONE = frozenset({"sn", "sl", "swop", "swci", "admin"})
NODES = frozenset({"sl", "swop", "swci"})  # an SN joins through another SN, not by registering
TRAINERS = frozenset({"sl"})
OPERATORS = frozenset({"swop"})
SNS = frozenset({"sn"})
ADMINISTRATORS = frozenset({"swci", "admin"})

_BY_SERVICE = {
    NETWORK: {
        "Register": NODES,
        "HandOver": NODES | SNS,
        "Deregister": NODES,
        "HoldName": NODES,
        "ListNodes": EVERYONE,
        "ListContracts": EVERYONE,
        "GetInfo": EVERYONE,
        "ListOrganizations": EVERYONE,
    },
    TRAINING: {
        "Enrol": TRAINERS,
        "CheckIn": TRAINERS,
        "ReportProgress": TRAINERS,
        "Publish": TRAINERS,
        "Reopen": TRAINERS,
        "VoteOut": TRAINERS,
        "Report": TRAINERS,
        "Leave": TRAINERS,
        "GetStatus": EVERYONE,
        "Watch": EVERYONE,
        "GetRecord": EVERYONE,
    },
    PEERING: {"Join": SNS, "Meet": SNS, "FindHolder": SNS, "GetBlocks": SNS},
    TASKS: {
        "CreateTask": ADMINISTRATORS,
        "SetTaskBody": ADMINISTRATORS,
        "FinalizeTask": ADMINISTRATORS,
        "DeleteTask": ADMINISTRATORS,
        "ListTasks": EVERYONE,
        "GetTask": EVERYONE,
    },
    RUNNERS: {
        "CreateRunner": ADMINISTRATORS,
        "AssignTask": ADMINISTRATORS,
        "ResetRunner": ADMINISTRATORS,
        "ListRunners": EVERYONE,
        "GetRunner": EVERYONE,
        "GetPeer": EVERYONE,
        "WatchRunner": EVERYONE,
        "Attend": OPERATORS,
        "Quit": OPERATORS,
        "EnrolInTask": OPERATORS,
        "ReportPeer": OPERATORS,
        "Release": OPERATORS,
    },
    ADMIN: {
        "CreateContract": ADMINISTRATORS,
        "ResetContract": ADMINISTRATORS,
        "ReplaceKey": ADMINISTRATORS,
        "ProposeOrganization": ADMINISTRATORS,
        "ProposeRemoval": ADMINISTRATORS,
        "Approve": ADMINISTRATORS,
        "Withdraw": ADMINISTRATORS,
        "Expel": ADMINISTRATORS,
    },
}

ROLES = {f"/{service}/{call}": roles for service, calls in _BY_SERVICE.items() for call, roles in calls.items()}

# What a removed or expelled SN may still call while it seals.
HANDING_OVER = frozenset({f"/{PEERING}/Meet", f"/{PEERING}/GetBlocks"})

# Limits of one certificate, which 256 SLs may share: several times the calls of any measured swarm.
_WRITES = CallLimit("write calls", at_once=3000, per_s=300)
_WATCHES = CallLimit("watch calls", at_once=3000, per_s=300, open=1024)
_RECORDS = CallLimit("calls for a record", at_once=20, per_s=1, open=4)

_READS = frozenset({
    "ListNodes", "ListContracts", "GetInfo", "GetStatus", "ListTasks", "GetTask", "ListRunners", "GetRunner", "GetPeer",
    "ListOrganizations",
})  # fmt: skip
_STREAMS = {"Watch": _WATCHES, "WatchRunner": _WATCHES, "HoldName": _WATCHES, "GetRecord": _RECORDS}

LIMITS = {
    f"/{service}/{call}": _STREAMS.get(call, _WRITES)
    for service, calls in _BY_SERVICE.items()
    if service != PEERING  # an SN without connection retries again and again, and has a stream with each other SN
    for call in calls
    if call not in _READS
}
