"""Which roles may make which call; what is not listed is denied."""

NETWORK = "swarm.v1.Network"
TRAINING = "swarm.v1.Training"
ADMIN = "swarm.v1.Admin"
TASKS = "swarm.v1.Tasks"
RUNNERS = "swarm.v1.Runners"
PEERING = "swarm.v1.Peering"
SERVICES = (NETWORK, TRAINING, ADMIN, TASKS, RUNNERS, PEERING)

EVERYONE = frozenset({"sn", "sl", "swop", "swci", "admin"})
NODES = frozenset({"sl", "swop", "swci"})  # an SN joins through another SN, not by registering
TRAINERS = frozenset({"sl"})
OPERATORS = frozenset({"swop"})
SNS = frozenset({"sn"})
ADMINISTRATORS = frozenset({"swci", "admin"})

_BY_SERVICE = {
    NETWORK: {
        "Register": NODES,
        "Deregister": NODES,
        "HoldName": NODES,
        "ListNodes": EVERYONE,
        "ListContracts": EVERYONE,
        "GetInfo": EVERYONE,
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
    ADMIN: {"CreateContract": ADMINISTRATORS, "ResetContract": ADMINISTRATORS},
}

ROLES = {f"/{service}/{call}": roles for service, calls in _BY_SERVICE.items() for call, roles in calls.items()}
