"""What the training contract refuses: exit code 14."""

from services.errors.base import Fact, SwarmError


class TrainingError(SwarmError):
    code = "training"
    grpc_status = "FAILED_PRECONDITION"
    exit_code = 14
    message = "The training {contract} refused: {problem}"
    remedy = "`swarm status` shows its state."


class UnknownContract(TrainingError):
    code = "unknown-contract"
    grpc_status = "NOT_FOUND"
    message = "There is no training contract {contract}; there are {known}"
    remedy = "Correct trainingContract, or have an administrator create it."


class ContractNameTaken(TrainingError):
    code = "contract-name-taken"
    grpc_status = "ALREADY_EXISTS"
    message = "There is already a contract named {name}"
    remedy = "Choose another name; contracts are never deleted."


class NotAMember(TrainingError):
    code = "not-a-member"
    grpc_status = "PERMISSION_DENIED"
    message = "{name} is not registered with this swarm"
    remedy = "A node registers with its SN when it starts: restart it, or correct the name (LIST NODES shows all)."


class ConfigurationDiffers(TrainingError):
    code = "configuration-differs"
    message = "This node's {field} is {given}, but the training was agreed with {agreed}"
    remedy = "Give every node the same {field}."


class NameTaken(TrainingError):
    code = "name-taken"
    enrolled_fingerprint = Fact(str, "enrolledFingerprint")
    grpc_status = "ALREADY_EXISTS"
    message = "The name {name} is enrolled with another key"
    remedy = (
        "Use a certificate for the key it was enrolled with, hand over to a new key with swarm certs rotate, have an "
        "administrator replace a key that is lost (REPLACE KEY), or give this node a name of its own."
    )


class KeyWasReplaced(TrainingError):
    code = "key-was-replaced"
    grpc_status = "PERMISSION_DENIED"
    message = "{name} had the key {key} before, and a replaced key cannot be used again"
    remedy = "Make a new key for this node: swarm certs rotate."


class HandoverRefused(TrainingError):
    code = "handover-refused"
    grpc_status = "PERMISSION_DENIED"
    message = "The handover from the old key to the new one is not valid: {problem}"
    remedy = "Make the new key with swarm certs rotate, from the key that this node had."


class NameInUse(TrainingError):
    code = "name-in-use"
    grpc_status = "ALREADY_EXISTS"
    message = "{name} is running already, at {address}"
    remedy = (
        "Stop that process, or start this one with a certificate of its own. Several SLs may share a certificate if "
        "each has its own slot (--slot, SL_SLOT)."
    )


class TooManySlots(TrainingError):
    code = "too-many-slots"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "The certificate of {name} is already in use under {limit} names, the most that are allowed"
    remedy = "Start nodes again in the slots they had, or give this one a certificate of its own."


class UnknownMergeMethod(TrainingError):
    code = "unknown-merge-method"
    grpc_status = "INVALID_ARGUMENT"
    message = "There is no merge method {method}; there is {known}"
    remedy = "Correct mergeMethod in the call of SwarmCallback."


class NotEnrolled(TrainingError):
    code = "not-enrolled"
    message = "{name} is not enrolled in this training"
    remedy = "Enrol first; a node enrols when its ML program opens the channel."


class TakesNoPart(TrainingError):
    code = "takes-no-part"
    grpc_status = "PERMISSION_DENIED"
    message = "The training {contract} is for {organizations}, and {name} is of {organization}"
    remedy = "Take part in another one, or create one for this organization too: CREATE CONTRACT ... FOR ..."


class NotConfigured(TrainingError):
    code = "not-configured"
    message = "Nobody has enrolled in this training yet"
    remedy = "Enrol first."


class TrainingComplete(TrainingError):
    code = "training-complete"
    message = "The training is complete since round {round}"
    remedy = "Take its final model; an administrator can reset the contract for another training."


class TrainingNotComplete(TrainingError):
    code = "training-not-complete"
    message = "The training is still running"
    remedy = "Reset it when it is complete, or when everyone has left it."


class StaleRound(TrainingError):
    code = "stale-round"
    grpc_status = "ABORTED"
    current = Fact(int, "current")
    message = "This was meant for round {given}, but the training is in round {current}"
    remedy = "The node takes the last merged model and continues from there."


class StaleTerm(TrainingError):
    code = "stale-term"
    grpc_status = "ABORTED"
    message = "This was meant for term {given} of round {round}, but a new leader holds term {current}"
    remedy = "The node continues as a follower."


class RoundClosed(TrainingError):
    code = "round-closed"
    grpc_status = "ABORTED"
    round = Fact(int, "round")
    message = "Round {round} no longer takes check-ins"
    remedy = "The node takes the merged model and contributes to the next round."


class RoundNotClosed(TrainingError):
    code = "round-not-closed"
    grpc_status = "ABORTED"
    message = "Round {round} is still open for check-ins"
    remedy = "Wait until its leader is named."


class Behind(TrainingError):
    code = "behind"
    grpc_status = "ABORTED"
    last_accepted = Fact(int, "lastAccepted")
    message = "These parameters come from round {base}, but round {lastAccepted} was merged since"
    remedy = "The node takes the last merged model first."


class AlreadyCheckedIn(TrainingError):
    code = "already-checked-in"
    grpc_status = "ALREADY_EXISTS"
    message = "{name} already checked in other parameters for round {round}"
    remedy = "One node contributes once to a round; check that no second program runs under this name."


class NotAParticipant(TrainingError):
    code = "not-a-participant"
    message = "{name} takes no part in round {round}"
    remedy = "It can check in to the next round."


class ModelDiffers(TrainingError):
    code = "model-differs"
    agreed_by = Fact(str, "agreedBy")
    message = "{difference}"
    remedy = "Every node must build the same model; correct the one that differs and start it again."


class SizeDiffers(TrainingError):
    code = "size-differs"
    message = "{given} bytes are announced for parameters that have {agreed}"
    remedy = (
        "The header of the parameters fixes their size: whoever announces another one is at fault. If that is not "
        "this node, those who merged the first round are; start a new training without them."
    )


class BelowMinPeers(TrainingError):
    code = "below-min-peers"
    message = "Only {have} of the {need} peers needed have checked in"
    remedy = "The round waits for more."


class EnoughPeers(TrainingError):
    code = "enough-peers"
    message = "{have} peers have checked in, and {need} are enough"
    remedy = "Publish the result of those."


class NobodyMayLead(TrainingError):
    code = "nobody-may-lead"
    message = "No participant of round {round} may lead"
    remedy = "Start at least one SL with SL_MAKE_ME_ADMIN=true."


class NotTheLeader(TrainingError):
    code = "not-the-leader"
    grpc_status = "ABORTED"
    message = "{name} does not lead term {term} of round {round}; {leader} does"
    remedy = "The node continues as a follower."


class NoSecondCopy(TrainingError):
    code = "no-second-copy"
    message = "No other participant is shown to hold the result of round {round}: {problem}"
    remedy = "The leader must first have one take a copy and sign for it; a leader that cannot is voted out."


class LeaderMayNotVote(TrainingError):
    code = "leader-may-not-vote"
    message = "{name} is the leader and cannot vote about itself"
    remedy = "Followers decide."


class MalformedCall(TrainingError):
    code = "malformed-call"
    grpc_status = "INVALID_ARGUMENT"
    message = "The value of {field} is not allowed"
    remedy = "Correct it."
