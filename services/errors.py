"""Every failure a user can meet, with what to do about it. Imports nothing.

SwarmError
├── SettingsError          a setting is missing, malformed or contradicts another
├── IdentityError          a certificate, key or CA is not usable, or a peer's is not acceptable
├── LicenseError           no lease, no seat, no license server
├── NetworkError           a node cannot be reached, or a port cannot be had
├── ChainError             geth, the embedded chain, or a transaction
├── TrainingError          what the training contract refuses
├── ModelError             parameters that are damaged, do not fit, or are not finite
├── ChannelError           the pipes between ML and SL
├── StorageError           a directory or disk
├── LocalError             `swarm up` and its children
├── ExecutorError          Docker, Podman or the local processes of a SWOP
├── CommandError           a command of SWCI, what it names, or what came of it
├── AuditError             the record of a training, or a model file that is not what it says
├── AdminError             what the administration of a license server refuses
└── TaskError              tasks, and the taskrunners that have them done

An instance takes the facts of its message by keyword: ``QuorumNotReached(have=2, need=3)``.
``str()`` says what is wrong, where, and what to do.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

T = TypeVar("T", int, float, str)


class SwarmError(Exception):
    """Base of all. ``code`` is stable and unique; ``exit_code`` is what a process ends with.

    ``message`` and ``remedy`` are format strings over the facts.
    """

    code: ClassVar[str] = "internal"
    grpc_status: ClassVar[str] = "INTERNAL"
    exit_code: ClassVar[int] = 1
    message: ClassVar[str] = "Something failed that should not: {detail}"
    remedy: ClassVar[str] = "Please report this with the log of the node."

    def __init__(self, **facts: Any) -> None:
        super().__init__(facts)
        self.facts: Mapping[str, Any] = facts

    def __str__(self) -> str:
        facts = _Facts(self.facts)
        said = self.message.format_map(facts).removesuffix(".")  # the last fact may be a sentence of its own
        joint = "\n" if "\n" in said else ". "  # it ends with lines of a program's log
        return f"{said}{joint}{self.remedy.format_map(facts)}"


class Fact(Generic[T]):
    """A fact that code reads, as an attribute. 0 or empty where it is missing or of another type, for peers send it."""

    def __init__(self, kind: type[T], name: str) -> None:
        self._kind: type[T] = kind
        self._name = name

    def __get__(self, error: SwarmError, owner: type[SwarmError]) -> T:
        value = error.facts.get(self._name)
        if self._kind is float and isinstance(value, int):
            value = float(value)
        found: T = value if isinstance(value, self._kind) else self._kind()
        return found


class _Facts(dict[str, Any]):
    """Facts for a message; one that is missing shows as '?', an error never hides another."""

    def __missing__(self, key: str) -> str:
        return "?"


def by_code(code: str) -> type[SwarmError]:
    """The class with this code; SwarmError itself where there is none."""
    return _registry().get(code, SwarmError)


def _registry() -> dict[str, type[SwarmError]]:
    found: dict[str, type[SwarmError]] = {}
    pending = [SwarmError]
    while pending:
        cls = pending.pop()
        found[cls.code] = cls
        pending.extend(cls.__subclasses__())
    return found


# --- settings: exit code 2 ---------------------------------------------------------------------------


class SettingsError(SwarmError):
    code = "settings"
    grpc_status = "INVALID_ARGUMENT"
    exit_code = 2
    message = "{name} is not usable: {problem}"
    remedy = "Correct it and start again; `swarm {command} --help` lists the settings."


class UnknownSetting(SettingsError):
    code = "unknown-setting"
    message = "The environment variable {name} is not a setting of this node"
    remedy = "Did you mean {nearest}? Correct or unset it."


class OptionUnusable(SettingsError):
    """An option of a script of scripts/bin."""

    code = "option"
    message = "{option}: {problem}"
    remedy = "`{script} --help` lists the options."


# --- identity: exit code 10 --------------------------------------------------------------------------


class IdentityError(SwarmError):
    code = "identity"
    grpc_status = "UNAUTHENTICATED"
    exit_code = 10
    problem = Fact(str, "problem")
    message = "The identity {path} is not usable: {problem}"
    remedy = "Give --cert, --key and --cacert (or --capath, or --trust); `swarm certs` makes them for a trial."


class NoIdentity(IdentityError):
    code = "no-identity"
    message = "No identity specified: {missing} is not given"


class WorkloadApiFailed(IdentityError):
    code = "workload-api-failed"
    message = "The SPIFFE Workload API at {path} gave no identity: {problem}"
    remedy = (
        "Give --socket-path the socket of a SPIRE agent that runs, and see that it has an entry for this process with "
        "the SPIFFE ID spiffe://DOMAIN/ROLE/NAME."
    )


class CertificateUnreadable(IdentityError):
    code = "certificate-unreadable"
    message = "{path} cannot be read as a {kind}: {problem}"


class CertificateExpired(IdentityError):
    code = "certificate-expired"
    message = "The certificate {path} of {name} expired at {when}"
    remedy = "Issue a new one with `swarm certs issue`, and check this machine's clock."


class CertificateNotYetValid(IdentityError):
    code = "certificate-not-yet-valid"
    message = "The certificate {path} of {name} is valid only from {when}"
    remedy = "Check this machine's clock, or wait until then."


class CertificateUntrusted(IdentityError):
    code = "certificate-untrusted"
    message = "The certificate {path} of {name} does not end in a CA of {trust}"
    remedy = "Add the CA that issued it to --cacert, --capath or --trust, on this node and its peers."


class KeyMismatch(IdentityError):
    code = "key-mismatch"
    message = "The key {key} does not belong to the certificate {path}"
    remedy = "Give the key that was made with this certificate."


class WrongRole(IdentityError):
    code = "wrong-role"
    grpc_status = "PERMISSION_DENIED"
    message = "{name} has the role {role}, but {action} needs {needed}"
    remedy = "Use a certificate with the role that is needed (`swarm certs issue --role`)."


class PeerNotAccepted(IdentityError):
    code = "peer-not-accepted"
    message = "{peer} at {address} was not accepted: {problem}"
    remedy = "Check that both sides trust each other's CA, that neither certificate is expired, and the host name."


class NotOfOrganization(IdentityError):
    """A certificate that says it is of an organization which, by the trust file, has no such node."""

    code = "not-of-organization"
    grpc_status = "PERMISSION_DENIED"
    message = "The certificate of {role} {name} is not accepted from {organization}: {problem}"
    remedy = "Have its own organization issue what it may, or have the trust file corrected where this was refused."


class OrganizationNotHeld(NotOfOrganization):
    code = "organization-not-held"
    message = "The swarm has no organization {organization}"
    remedy = (
        "Have it voted in: swarm org propose and approve. A swarm that began without a trust file is one organization "
        "without a name, and stays it."
    )


class CANotVotedIn(NotOfOrganization):
    """Of an organization that the swarm has, by the trust file, but from a CA that it does not know."""

    code = "ca-not-voted-in"
    message = "The certificate of {role} {name} is from the CA {ca} of {organization}, which the swarm has not voted in"
    remedy = (
        "Have the organization's CAs voted in (swarm org propose and approve), or use a certificate of one that was."
    )


class TrustFileUnusable(IdentityError):
    code = "trust-file-unusable"
    message = "{source}, line {line}: {path}: {problem}"
    remedy = "Correct the trust file and try again."


class RequestRefused(IdentityError):
    """A certificate request that a CA does not sign."""

    code = "request-refused"
    grpc_status = "INVALID_ARGUMENT"
    message = "The certificate request {path} is not signed: {problem}"
    remedy = "`swarm certs request`, where the node runs, makes one anew."


# --- license: exit code 11 ---------------------------------------------------------------------------


class LicenseError(SwarmError):
    code = "license"
    grpc_status = "FAILED_PRECONDITION"
    exit_code = 11
    problem = Fact(str, "problem")
    message = "No license for {feature}: {problem}"
    remedy = "Look at the license server {address}."


class LicenseServerUnreachable(LicenseError):
    code = "license-server-unreachable"
    grpc_status = "UNAVAILABLE"
    message = "The license server {address} cannot be reached: {problem}"
    remedy = "Start it (`swarm license-server`) or correct --apls-ip and --apls-port."


class NoSeatLeft(LicenseError):
    code = "no-seat-left"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "All {capacity} seats for {feature} are in use (by {holders})"
    remedy = "Stop a node that is not needed, or install a license with more seats on {address}."


class LicenseRevoked(LicenseError):
    code = "license-revoked"
    grpc_status = "PERMISSION_DENIED"
    message = "The lease for {feature} was revoked: {problem}"
    remedy = "Ask the operator of the license server {address}."


class LeaseUnknown(LicenseError):
    code = "lease-unknown"
    grpc_status = "NOT_FOUND"
    message = "The license server {address} knows no lease {lease}"
    remedy = "It was freed because it was not renewed in time; the node takes a new one by itself."


class LicenseUnreadable(LicenseError):
    code = "license-unreadable"
    grpc_status = "INVALID_ARGUMENT"
    message = "This is not a license file: {problem}"
    remedy = "Install the file as its issuer gave it; `swarm license issue` makes one."


class LicenseForged(LicenseError):
    code = "license-forged"
    grpc_status = "FAILED_PRECONDITION"
    message = "The signature of license {license} is not good: {problem}"
    remedy = "Ask its issuer for the file; an operator decides whose keys are trusted (`swarm license trust`)."


class LicenseExpired(LicenseError):
    code = "license-expired"
    grpc_status = "FAILED_PRECONDITION"
    message = "The license for {feature} expired at {when}"
    remedy = "Install a new license on {address}."


class LicenseNotYetValid(LicenseError):
    code = "license-not-yet-valid"
    grpc_status = "FAILED_PRECONDITION"
    message = "The license for {feature} is valid only from {when}"
    remedy = "Wait until then, or check the clock of the license server {address}."


class LockCodeDiffers(LicenseError):
    code = "lock-code-differs"
    grpc_status = "FAILED_PRECONDITION"
    message = "License {license} is for the server with the lock code {theirs}; this one has {ours}"
    remedy = "Give the issuer the lock code of this server, and install the file he makes for it."


class NodeNotAllowed(LicenseError):
    code = "node-not-allowed"
    grpc_status = "PERMISSION_DENIED"
    message = "The pool for {feature} is not for {name}; it is for {allowed}"
    remedy = "An operator of {address} decides which nodes a pool serves."


class SeatsReserved(NoSeatLeft):
    code = "seats-reserved"
    message = "The seats for {feature} that are free are reserved for others ({capacity} in all, used by {holders})"
    remedy = "Stop a node that is not needed, or have an operator of {address} change the reservations."


class NotActive(LicenseError):
    code = "not-active"
    grpc_status = "UNAVAILABLE"
    message = "The license server {address} stands by for another one"
    remedy = "Ask the one that is active ({active}); nodes do so by themselves where they are given both."


# --- network: exit code 12 ---------------------------------------------------------------------------


class NetworkError(SwarmError):
    code = "network"
    grpc_status = "UNAVAILABLE"
    exit_code = 12
    problem = Fact(str, "problem")
    message = "{peer} at {address} cannot be reached: {problem}"
    remedy = "Check that it runs and that its port is open from here."


class SNUnreachable(NetworkError):
    code = "sn-unreachable"
    message = "The SN at {address} cannot be reached: {problem}"
    remedy = "Check that it runs (its log says 'Starting SWARM-API-SERVER'), and --sn-ip and --sn-api-port."


class SNSilent(SNUnreachable):
    """It may be cut off from the others."""

    code = "sn-silent"
    message = "The SN at {address} cannot be reached: it did not answer in time"

    def __init__(self, **facts: Any) -> None:
        super().__init__(**{"problem": "it did not answer in time", **facts})


class PortInUse(NetworkError):
    code = "port-in-use"
    message = "Port {port} on {host} is in use by another program"
    remedy = "Stop that program or choose another port with {option}."


class TooManyCalls(SNUnreachable):
    """Of one member, which may go on in a moment."""

    code = "too-many-calls"
    grpc_status = "RESOURCE_EXHAUSTED"
    seconds = Fact(float, "seconds")
    message = "Too many {action} of {name}: {problem}"
    remedy = "Nodes try again by themselves; a program has to wait {seconds} s, or ask less often."


class SNOfAnotherVersion(NetworkError):
    code = "sn-of-another-version"
    grpc_status = "UNIMPLEMENTED"
    message = "The SN at {address} does not know what it was asked: it runs another version"
    remedy = "Install the same release of swarm-learning here and there."


class NotUpInTime(NetworkError):
    code = "not-up-in-time"
    grpc_status = "DEADLINE_EXCEEDED"
    message = "{peer} at {address} did not come up within {limit}: {problem}"
    remedy = "Look at its log, or wait again with more retries."


class PeerUnreachable(NetworkError):
    code = "peer-unreachable"


# --- chain: exit code 13 -----------------------------------------------------------------------------


class ChainError(SwarmError):
    code = "chain"
    grpc_status = "INTERNAL"
    exit_code = 13
    message = "The chain failed: {problem}"
    remedy = "See {log}."


class GethNotFound(ChainError):
    code = "geth-not-found"
    message = "geth is not on the PATH"
    remedy = "Run `make setup` (it builds geth where Go is installed), or choose --chain embedded."


class ChainLibraryMissing(ChainError):
    code = "chain-library-missing"
    message = "This installation has no {library}, which nodes need that read or write the chain"
    remedy = "Install it: pip install 'swarm-learning[services]'. Of the images, sn and swop have it."


class GethNotPossible(ChainError):
    code = "geth-not-possible"
    message = "geth cannot run here: the system call {call} is forbidden ({problem})"
    remedy = (
        "Allow it, as the default seccomp profiles of Docker, Podman and Kubernetes do, or choose --chain embedded."
    )


class GethFailed(ChainError):
    code = "geth-failed"
    message = "geth {problem}; its last lines: {tail}"
    remedy = "The whole log is {log}."


class ContractRevert(ChainError):
    """A contract's named error that has no class of its own here."""

    code = "contract-revert"
    grpc_status = "FAILED_PRECONDITION"
    message = "The contract refused with {name}({arguments})"
    remedy = "The name of the error says what it expects."


class NotARegisteredSN(ChainError):
    code = "not-a-registered-sn"
    grpc_status = "PERMISSION_DENIED"
    message = "The account {account} does not belong to a registered SN"
    remedy = "Start the SN through a running SN of this swarm, or with the data directory it had."


class LastSN(ChainError):
    code = "last-sn"
    grpc_status = "FAILED_PRECONDITION"
    message = "The account {account} is the last that may write to this swarm's contracts"
    remedy = "Register another SN before this one is removed."


class NoOrganizations(ChainError):
    code = "no-organizations"
    grpc_status = "FAILED_PRECONDITION"
    message = "This swarm began without a trust file, so it is one organization and no other can come in"
    remedy = "Begin a new swarm whose sentinel has a trust file (--trust)."


class SNNotVotedIn(ChainError):
    code = "sn-not-voted-in"
    grpc_status = "FAILED_PRECONDITION"
    message = "The SN {name} of {organization} needs the votes of the organizations in this swarm"
    remedy = "Have administrators vote for it (swarm org list, swarm org approve), and start it again then."


class SNAwaitsVotes(SNNotVotedIn):
    code = "sn-awaits-votes"
    remedy = "Have administrators approve proposal {number} (swarm org approve), and start it again then."


class NoSNWouldBeLeft(ChainError):
    code = "no-sn-would-be-left"
    grpc_status = "FAILED_PRECONDITION"
    message = "{organization} has all SNs of this swarm, so that it cannot be removed"
    remedy = "Have an SN of another organization join first."


class NoSuchProposal(ChainError):
    code = "no-such-proposal"
    grpc_status = "NOT_FOUND"
    message = "There is no open proposal {number}"
    remedy = "`swarm org list` shows those that are open."


class AnotherOrganization(ChainError):
    code = "another-organization"
    grpc_status = "PERMISSION_DENIED"
    message = "The account of an SN of {organization} can be taken from it by that organization alone"
    remedy = "Have an SN of that organization do it, or propose to remove the organization."


class VotesForAnother(ChainError):
    code = "votes-for-another"
    grpc_status = "PERMISSION_DENIED"
    message = "{sn} votes for {organization}, and this is an administrator of {of}"
    remedy = "Ask an SN of {of}."


class ServesOneSN(ChainError):
    code = "serves-one-sn"
    grpc_status = "FAILED_PRECONDITION"
    message = "{name} runs the {kind} chain, which serves one SN only"
    remedy = "Start its swarm anew with --chain geth, in another --data-dir, and join it then."


class AnotherSwarm(ChainError):
    code = "another-swarm"
    grpc_status = "FAILED_PRECONDITION"
    message = "{name} belongs to another swarm: its chain is {theirs}, ours {ours}"
    remedy = (
        "Correct --sentinel-ip, or start this node with an empty --data-dir; after `swarm chain recover`, with nothing "
        "but account.key in it."
    )


class NotInSync(ChainError):
    code = "not-in-sync"
    grpc_status = "UNAVAILABLE"
    message = "The chain came only to block {have} of {need}, and no further in {seconds} s"
    remedy = "More than half of the SNs that seal must be reachable, on their API ports; the log of {log} says more."


# --- training: exit code 14 --------------------------------------------------------------------------


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
    remedy = "A node registers with its SN when it starts; restart it."


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
        "Use a certificate of the key it was enrolled with, hand over to a new key with swarm certs rotate, have an "
        "administrator replace a key that is lost (REPLACE KEY), or give this node a name of its own."
    )


class KeyWasReplaced(TrainingError):
    code = "key-was-replaced"
    grpc_status = "PERMISSION_DENIED"
    message = "{name} had the key {key} before, and a key that was replaced does not come back"
    remedy = "Make a new key for this node: swarm certs rotate."


class HandoverRefused(TrainingError):
    code = "handover-refused"
    grpc_status = "PERMISSION_DENIED"
    message = "The handover from the old key to the new one is of no use: {problem}"
    remedy = "Make the new key with swarm certs rotate, from the key that this node had."


class NameInUse(TrainingError):
    code = "name-in-use"
    grpc_status = "ALREADY_EXISTS"
    message = "{name} is running already, at {address}"
    remedy = (
        "Stop that process, or start this one with a certificate of its own. Several SLs may share a certificate where "
        "each has a slot of it (--slot, SL_SLOT)."
    )


class TooManySlots(TrainingError):
    code = "too-many-slots"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "The certificate of {name} is in use under {limit} names already, more are not taken"
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
    remedy = "Reset it when it is complete."


class StaleRound(TrainingError):
    code = "stale-round"
    grpc_status = "ABORTED"
    current = Fact(int, "current")
    message = "This was meant for round {given}, but the training is in round {current}"
    remedy = "The node takes the last merged model and goes on from there."


class StaleTerm(TrainingError):
    code = "stale-term"
    grpc_status = "ABORTED"
    message = "This was meant for term {given} of round {round}, but a new leader holds term {current}"
    remedy = "The node goes on as a follower."


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
        "The header of the parameters fixes their size: whoever announces another one is at fault. Where that is not "
        "this node, those who merged the first round are; start a new training without them."
    )


class BelowMinPeers(TrainingError):
    code = "below-min-peers"
    message = "Only {have} of the {need} peers needed are in"
    remedy = "The round waits for more."


class EnoughPeers(TrainingError):
    code = "enough-peers"
    message = "{have} peers are in and {need} are enough"
    remedy = "Publish the result of those."


class NobodyMayLead(TrainingError):
    code = "nobody-may-lead"
    message = "No participant of round {round} may lead"
    remedy = "Start at least one SL with SL_MAKE_ME_ADMIN=true."


class NotTheLeader(TrainingError):
    code = "not-the-leader"
    grpc_status = "ABORTED"
    message = "{name} does not lead term {term} of round {round}; {leader} does"
    remedy = "The node goes on as a follower."


class LeaderMayNotVote(TrainingError):
    code = "leader-may-not-vote"
    message = "{name} leads and has no vote about itself"
    remedy = "Followers decide."


class MalformedCall(TrainingError):
    code = "malformed-call"
    grpc_status = "INVALID_ARGUMENT"
    message = "The value of {field} is not allowed"
    remedy = "Correct it."


# --- models: exit code 15 ----------------------------------------------------------------------------


class ModelError(SwarmError):
    code = "model"
    grpc_status = "DATA_LOSS"
    exit_code = 15
    problem = Fact(str, "problem")
    message = "The parameters of {node} are not usable: {problem}"
    remedy = "See the log of {node}."


class StreamDamaged(ModelError):
    code = "stream-damaged"
    message = "The parameter stream of {node} is damaged: {problem}"
    remedy = "Nothing of it was used; send it again."


class DigestMismatch(ModelError):
    code = "digest-mismatch"
    found = Fact(str, "found")
    expected = Fact(str, "expected")
    message = "What {node} served is not what the chain records: {found} instead of {expected}"
    remedy = "Nothing of it was used; another holder is asked."


class ModelNotFinite(ModelError):
    code = "not-finite"
    message = "{node} was left out of round {round}: {reason}"
    remedy = "Lower the learning rate or look at its data; the node may go on from the last merged model."


class LeftOutOfRound(ModelError):
    code = "left-out-of-round"
    message = "{node} was left out of round {round}: {reason}"
    remedy = "There is no merged model yet to go on from; remove the cause and start this node again."


class ResultUnavailable(ModelError):
    code = "result-unavailable"
    grpc_status = "UNAVAILABLE"
    message = "Nobody who holds the result of round {round} could serve it ({tried})"
    remedy = "Start one of these nodes again."


# --- channel: exit code 16 ---------------------------------------------------------------------------


class MLChannelError(SwarmError):
    code = "channel"
    grpc_status = "ABORTED"
    exit_code = 16
    message = "The channel to the ML program failed: {problem}"
    remedy = "See the output of the ML program."


class MLGone(MLChannelError):
    code = "ml-gone"
    message = "The ML program of {node} ended {when}"
    remedy = "See its output for the cause, then start it and its SL again."


class SLStopped(MLChannelError):
    code = "sl-stopped"
    message = "The SL {node} was stopped"
    remedy = "Start it and its ML program again; they go on from the last merged model."


class ProtocolMismatch(MLChannelError):
    code = "protocol-mismatch"
    message = "The ML program speaks version {theirs} of the channel, this SL version {ours}"
    remedy = "Install the same release of swarm-learning on both sides."


# --- storage: exit code 17 ---------------------------------------------------------------------------


class StorageError(SwarmError):
    code = "storage"
    grpc_status = "INTERNAL"
    exit_code = 17
    message = "{path} cannot be written: {problem}"
    remedy = "Make it writable for the user that runs the node, or choose another --data-dir."


class DiskFull(StorageError):
    code = "disk-full"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "The disk of {path} is full: {needed} bytes are needed, {free} are free"
    remedy = "Free space there, or choose another --data-dir; nothing half written was kept."


class FileExists(StorageError):
    code = "file-exists"
    grpc_status = "ALREADY_EXISTS"
    message = "{path} exists already and is not overwritten"
    remedy = "Choose another name or directory, or say --force to replace it for good."


# --- local swarms: exit code 18 ----------------------------------------------------------------------


class LocalError(SwarmError):
    code = "local"
    exit_code = 18
    message = "The local swarm in {dir} failed: {problem}"
    remedy = "The logs are in {dir}."


class ChildFailed(LocalError):
    code = "child-failed"
    message = "{child} ended with exit code {exit}"
    remedy = "See what it said last (the whole log is {log}):\n{tail}"


class NotReady(LocalError):
    code = "not-ready"
    message = "{child} was not ready after {seconds} s"
    remedy = "See what it said last (the whole log is {log}):\n{tail}"


class AlreadyRunning(LocalError):
    code = "already-running"
    message = "A swarm already runs in {dir}"
    remedy = "`swarm down --dir {dir}` stops it, or choose another --dir."


class NotRunning(LocalError):
    code = "not-running"
    message = "No swarm runs in {dir}"
    remedy = "`swarm up --dir {dir}` starts one; with another --dir it may be found there."


class DirUnusable(LocalError):
    code = "dir-unusable"
    message = "The directory {dir} cannot be used for a local swarm: {problem}"
    remedy = "Make it writable for you, or choose another --dir."


class NeverTrained(LocalError):
    code = "never-trained"
    message = "{program} ended without training through the channel of {node}"
    remedy = "Build a SwarmCallback in it and pass it to the training; its output is in {log}."


class TooFewSLs(LocalError):
    code = "too-few-sls"
    message = "minPeers is {min_peers}, but this swarm has {sls} SLs: no round is ever merged"
    remedy = "Start it with --sl {min_peers}, or give the programs a smaller minPeers."


class ProcessesNotWatched(LocalError):
    code = "processes-not-watched"
    message = "Programs cannot be watched here: the system call {call} is forbidden ({problem})"
    remedy = "Allow it, as the default seccomp profiles of Docker, Podman and Kubernetes do, or leave the container."


# --- audits: exit code 19 ----------------------------------------------------------------------------


class AuditError(SwarmError):
    code = "audit"
    exit_code = 19
    message = "The record of {contract} cannot be relied on: {problem}"
    remedy = "Read it from another SN (--sn-ip); where that one says the same, keep both and ask who ran the nodes."


class ModelsDiffer(AuditError):
    code = "models-differ"
    message = "{count} of {total} model files in {dir} are not what the record of {contract} says: {files}"
    remedy = "Do not use them; take the model with the digest {digest} from a node that holds it."


class NothingToVerify(AuditError):
    code = "nothing-to-verify"
    message = "There is no model file (*.safetensors) in {dir} or below"
    remedy = "Give --verify the directory that the models were saved in."


# --- administration of a license server: exit code 20 ------------------------------------------------


class AdminError(SwarmError):
    code = "admin"
    grpc_status = "INVALID_ARGUMENT"
    exit_code = 20
    message = "{problem}"
    remedy = "Correct it and try again."


class SignInRequired(AdminError):
    code = "sign-in-required"
    grpc_status = "UNAUTHENTICATED"
    message = "Nobody is signed in here: {problem}"
    remedy = "Sign in, or show an API token or an administrator's certificate."


class SignInFailed(AdminError):
    code = "sign-in-failed"
    grpc_status = "UNAUTHENTICATED"
    message = "The name, the password or the code is not right"
    remedy = "Try again; an administrator can set a new password."


class SignInLocked(AdminError):
    code = "sign-in-locked"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "Too many attempts failed; the next is possible in {seconds} s"
    remedy = "Wait until then; an administrator can set a new password."


class CodeNeeded(AdminError):
    code = "code-needed"
    grpc_status = "UNAUTHENTICATED"
    message = "A code of the authenticator app is needed as well"
    remedy = "Give the six digits that it shows now."


class NotPermitted(AdminError):
    code = "not-permitted"
    grpc_status = "PERMISSION_DENIED"
    message = "{name} may not do this: it needs {scope}"
    remedy = "An administrator gives roles to users and scopes to API tokens."


class NoSuchThing(AdminError):
    code = "no-such-thing"
    grpc_status = "NOT_FOUND"
    message = "There is no {what} {name}"
    remedy = "List them; it may have been removed meanwhile."


class NoSuchPage(NoSuchThing):
    code = "no-such-page"
    message = "There is no page {name}"
    remedy = "Start from the dashboard; what the address was of may be gone."


class ThingExists(AdminError):
    code = "thing-exists"
    grpc_status = "ALREADY_EXISTS"
    message = "There is already a {what} {name}"
    remedy = "Choose another name, or remove that one first."


class SetupOver(AdminError):
    code = "setup-over"
    grpc_status = "FAILED_PRECONDITION"
    message = "The setup link is not valid: {problem}"
    remedy = "Restart a server that has no users for a new link, or have an administrator make a user."


class LastAdmin(AdminError):
    code = "last-admin"
    grpc_status = "FAILED_PRECONDITION"
    message = "{name} is the last administrator"
    remedy = "Make another administrator first."


class TooManyRequests(AdminError):
    code = "too-many-requests"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "Too many requests from {address}"
    remedy = "Try again in {seconds} s."


class FormRefused(AdminError):
    code = "form-refused"
    grpc_status = "PERMISSION_DENIED"
    message = "This form is out of date, or it was sent from somewhere else"
    remedy = "Load the page again and send it from there; nothing was changed."


class BodyTooLarge(AdminError):
    code = "body-too-large"
    message = "The request is larger than {limit} bytes, or does not say how large it is"
    remedy = "Send less at once, with a Content-Length."


class BackupUnusable(AdminError):
    code = "backup-unusable"
    message = "This backup cannot be restored: {problem}"
    remedy = "Choose another backup; nothing was changed."


# --- tasks and taskrunners: exit code 21 --------------------------------------------------------------


class TaskError(SwarmError):
    code = "task"
    grpc_status = "FAILED_PRECONDITION"
    exit_code = 21
    message = "The task {name} cannot be used: {problem}"
    remedy = "Look at GET TASK INFO {name}."


class UnknownTask(TaskError):
    code = "unknown-task"
    grpc_status = "NOT_FOUND"
    message = "There is no task {name}"
    remedy = "Correct the name (LIST TASKS shows those that there are), or create it with CREATE TASK FROM."


class TaskNameTaken(TaskError):
    code = "task-name-taken"
    grpc_status = "ALREADY_EXISTS"
    message = "There is already a task named {name}"
    remedy = "Choose another name, or delete that one while it is not finalized."


class TaskIsFinalized(TaskError):
    code = "task-is-finalized"
    message = "The task {name} is finalized and cannot be changed any more"
    remedy = "Create one of another name."


class TaskNotFinalized(TaskError):
    code = "task-not-finalized"
    message = "The task {name} is not finalized"
    remedy = "Finalize it first: FINALIZE TASK {name}."


class TaskHasNoBody(TaskError):
    code = "task-has-no-body"
    message = "The task {name} has no body"
    remedy = "Append it first: APPEND TASK BODY {name} 1 <line>."


class TaskChanged(TaskError):
    code = "task-changed"
    grpc_status = "ABORTED"
    message = "The body of the task {name} has been changed by somebody else meanwhile"
    remedy = "Look at GET TASK BODY {name}, and try again."


class TooLong(TaskError):
    code = "too-long"
    grpc_status = "INVALID_ARGUMENT"
    message = "{field} has {size} bytes, of at most {limit}"
    remedy = "Shorten it."


class DocumentUnusable(TaskError):
    """A file of a user: a task, a profile, a policy."""

    code = "document-unusable"
    grpc_status = "INVALID_ARGUMENT"
    message = "{source}, line {line}: {path}: {problem}"
    remedy = "Correct the file and try again."


class FileUnreadable(TaskError):
    code = "file-unreadable"
    grpc_status = "NOT_FOUND"
    message = "{path} cannot be read: {problem}"
    remedy = "Correct the name, or make the file readable for this program."


class CredentialsInTask(TaskError):
    code = "credentials-in-task"
    grpc_status = "INVALID_ARGUMENT"
    message = "{source}, line {line}: Auth: a user name and password would stand on the chain for everybody to read"
    remedy = "Log in on each host with `docker login`, and give Auth the path of the config.json there, or ~."


class TaskRefused(TaskError):
    """By the SWOP of a host; its reason is on the chain."""

    code = "task-refused"
    grpc_status = "PERMISSION_DENIED"
    message = "{task} is refused: {problem}"
    remedy = "Ask the owner of the host, whose policy decides, or change the task."


class PeerFailed(TaskError):
    """One of the pairs of a task, or a build, ended badly."""

    code = "peer-failed"
    message = "{what} ended with exit code {exit}: {problem}{tail}"
    remedy = "Correct the program or the task, reset the taskrunner, and assign it again."


class UnknownApproval(TaskError):
    code = "unknown-approval"
    grpc_status = "NOT_FOUND"
    message = "{hash} cannot be answered: {problem}"
    remedy = "Give the beginning of a hash that swarm swop approve shows, long enough to be the only one."


class PolicyUnusable(TaskError):
    """Named by a profile, but no file that could be one."""

    code = "policy-unusable"
    message = "The policy {uri} cannot be used: {problem}"
    remedy = "Let policyuri name a YAML file (a path, relative to --usr-dir, or a file: URI), or be ~."


class RunnerError(TaskError):
    code = "runner"
    message = "The taskrunner {runner} refused: {problem}"
    remedy = "Look at GET TASKRUNNER STATUS {runner}."


class UnknownRunner(RunnerError):
    code = "unknown-runner"
    grpc_status = "NOT_FOUND"
    message = "There is no taskrunner {name}; there are {known}"
    remedy = "Correct the name, or create it with CREATE TASKRUNNER."


class RunnerBusy(RunnerError):
    code = "runner-busy"
    message = "The taskrunner is busy: it has the task {task}"
    remedy = "Wait until it has ended, then RESET TASKRUNNER."


class RunnerIdle(RunnerError):
    code = "runner-idle"
    message = "The taskrunner has no task"
    remedy = "Assign one first."


class StaleAssignment(RunnerError):
    code = "stale-assignment"
    grpc_status = "ABORTED"
    message = "Assignment {given} is over; the taskrunner is at {current}"
    remedy = "Nothing needs to be done: a SWOP drops it by itself."


class NotEnoughPeers(RunnerError):
    code = "not-enough-peers"
    message = "The task needs {need} peers, but the SWOPs of this taskrunner that are present bring {have}"
    remedy = "Ask for fewer (WITH ALL PEERS), or start more SWOPs."


class UnknownAgent(RunnerError):
    code = "unknown-agent"
    grpc_status = "NOT_FOUND"
    message = "There is no SWOP {name} at this taskrunner"
    remedy = "LIST TASKRUNNER PEERS shows which there are."


class AgentAbsent(RunnerError):
    code = "agent-absent"
    message = "The SWOP {name} is not present at this taskrunner"
    remedy = "Start it, or choose another one: LIST TASKRUNNER PEERS shows which there are."


class AgentNotAdmitted(RunnerError):
    code = "agent-not-admitted"
    grpc_status = "PERMISSION_DENIED"
    message = "The task is for other SWOPs than {name}"
    remedy = "Assign it WITH PEERS, or with {name} as its TARGET."


class AlreadyEnrolled(RunnerError):
    code = "already-enrolled"
    grpc_status = "ALREADY_EXISTS"
    message = "The SWOP {name} is enrolled in this assignment already"
    remedy = "Nothing needs to be done."


class AgentNotEnrolled(RunnerError):
    code = "agent-not-enrolled"
    message = "The SWOP {name} is not enrolled in this assignment"
    remedy = "Restart the SWOP."


class EnoughEnrolled(RunnerError):
    code = "enough-enrolled"
    message = "As many peers have enrolled as the task needs"
    remedy = "Nothing needs to be done."


class RunnerFull(RunnerError):
    code = "runner-full"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "The taskrunner {runner} has no room for this SWOP: {problem}"
    remedy = "Give it a taskrunner of its own (CREATE TASKRUNNER), or stop SWOPs that are not needed."


class PeerHasEnded(RunnerError):
    code = "peer-has-ended"
    message = "Peer {index} of the SWOP {name} has ended already"
    remedy = "Nothing needs to be done."


# --- executors of a SWOP: exit code 22 ----------------------------------------------------------------


class ExecutorError(SwarmError):
    code = "executor"
    grpc_status = "FAILED_PRECONDITION"
    exit_code = 22
    message = "{runtime} failed: {problem}"
    remedy = "See the log of {runtime} on this host."


class RuntimeAbsent(ExecutorError):
    code = "runtime-absent"
    grpc_status = "UNAVAILABLE"
    message = "{runtime} does not answer at {address}: {problem}"
    remedy = "Install and start it (on Debian: {install}), or set {variable} to where it listens."


class RuntimeForbidden(ExecutorError):
    code = "runtime-forbidden"
    grpc_status = "PERMISSION_DENIED"
    message = "User {uid} may not use {runtime} at {address}: {problem}"
    remedy = "Let this user belong to the group of the socket ({group}), and start the SWOP again."


class HostNotReady(ExecutorError):
    """Before a script makes anything on this host."""

    code = "host-not-ready"
    message = "{problem}"
    remedy = "{advice}."

    def __init__(self, **facts: Any) -> None:
        problem, advice = str(facts.get("problem", "?")), str(facts.get("advice", "?"))
        super().__init__(problem=f"{problem[:1].upper()}{problem[1:]}", advice=advice.rstrip("."))


class RuntimeGone(ExecutorError):
    code = "runtime-gone"
    grpc_status = "UNAVAILABLE"
    message = "{runtime} at {address} stopped answering {doing}: {problem}"
    remedy = "Start it again; the SWOP takes up what still runs."


class RuntimeRefused(ExecutorError):
    code = "runtime-refused"
    message = "{runtime} refused to {doing}: {problem}"
    remedy = "Correct what it names in the profile or the task."


class RuntimeDiskFull(ExecutorError):
    code = "runtime-disk-full"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "The disk on which {runtime} keeps its images and nodes is full; it failed to {doing}"
    remedy = (
        "Free space there (`docker system df` or `podman system df` shows what uses it), and assign the task again."
    )


class NotSupported(ExecutorError):
    code = "not-supported"
    grpc_status = "UNIMPLEMENTED"
    message = "The executor {executor} has no {option}: {problem}"
    remedy = "Leave it out of the profile, or choose another executor there."


class ImageMissing(ExecutorError):
    code = "image-missing"
    grpc_status = "NOT_FOUND"
    message = "This host has no image {image}"
    remedy = "First assign the task that builds or pulls it, or build it here by hand."


class ImageNotMapped(ImageMissing):
    code = "image-not-mapped"
    grpc_status = "NOT_FOUND"
    message = "The executor PROCESS builds and pulls no images, and the profile maps no Python environment to {image}"
    remedy = "Map it to one; mapped are: {mapped}."


class EnvironmentUnusable(ExecutorError):
    code = "environment-unusable"
    message = "The Python environment {python} of the image {image} cannot be used: {problem}"
    remedy = "Make it anew, or correct the profile's map of images."


class NodeUnknown(ExecutorError):
    code = "node-unknown"
    grpc_status = "NOT_FOUND"
    message = "{runtime} has no node {node}: it was removed"
    remedy = "Reset the taskrunner and assign the task again."


class NodeNameInUse(ExecutorError):
    code = "node-name-in-use"
    grpc_status = "ALREADY_EXISTS"
    message = "{runtime} has a node named {node} already"
    remedy = "Remove it, or reset the taskrunner that started it."


class ProgramMissing(ExecutorError):
    code = "program-missing"
    message = "The image {image} cannot start {program}: {problem}"
    remedy = "Correct Entrypoint, Command or WorkingDir of the task, or build the image with it."


class MountMissing(ExecutorError):
    code = "mount-missing"
    grpc_status = "NOT_FOUND"
    message = "{source}, to be mounted at {target}, is not there: {problem}"
    remedy = "Make it, or correct the profile or the task."


class MountEscapes(ExecutorError):
    code = "mount-escapes"
    grpc_status = "INVALID_ARGUMENT"
    message = "The mount of {source} at {target} is refused: {problem}"
    remedy = "Give paths without '..' and links that stay inside what is mounted."


class NetworkMissing(ExecutorError):
    code = "network-missing"
    grpc_status = "NOT_FOUND"
    message = "{runtime} has no network {network}"
    remedy = "Make it (`{command} network create {network}`), or correct `network` in the profile."


class PublishedPortInUse(ExecutorError):
    code = "published-port-in-use"
    grpc_status = "ALREADY_EXISTS"
    message = "Port {port} of this host is in use, so {node} cannot be reached by it"
    remedy = "Stop what uses it, or give another slport in the profile."


class VolumeMissing(ExecutorError):
    code = "volume-missing"
    grpc_status = "NOT_FOUND"
    message = "{runtime} has no volume {volume}"
    remedy = "Make and fill it first (docs/swop.md shows how), or correct its name in the task."


class VolumeEmpty(ExecutorError):
    code = "volume-empty"
    message = "The build context, volume {volume}, is empty"
    remedy = "Copy into it what the build steps need, or set BuildContext to ~."


class VolumeTooLarge(ExecutorError):
    code = "volume-too-large"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "The volume {volume} holds more than the {limit} bytes that may be copied"
    remedy = "Leave in it only what is needed, or raise the limit in the SWOP's settings."


class VolumeNameInUse(ExecutorError):
    code = "volume-name-in-use"
    grpc_status = "ALREADY_EXISTS"
    message = "{runtime} has a volume {volume} already"
    remedy = "Remove it, or reset the taskrunner that made it."


class VolumeBusy(ExecutorError):
    code = "volume-busy"
    message = "The volume {volume} is in use by {nodes}"
    remedy = "Remove them first."


class BuildFailed(ExecutorError):
    code = "build-failed"
    message = "Building {image} failed at {step}: {problem}. Its last lines:{tail}"
    remedy = "Correct the build steps of the task."


class PullFailed(ExecutorError):
    code = "pull-failed"
    message = "{image} cannot be pulled: {problem}"
    remedy = "Check its name, that its registry is reached from this host, and the credentials there."


class AuthFileUnusable(ExecutorError):
    code = "auth-file-unusable"
    message = "The credentials in {path} cannot be used: {problem}"
    remedy = "Make the file with `docker login`, readable for the SWOP; credentials never belong into a task."


# --- commands of an SWCI: exit code 23 ----------------------------------------------------------------


class CommandError(SwarmError):
    code = "command"
    grpc_status = "INVALID_ARGUMENT"
    exit_code = 23
    message = "{problem}"
    remedy = "Write: {usage}."


class UnknownCommand(CommandError):
    code = "unknown-command"
    message = "There is no command {command}"
    remedy = "{hint}HELP lists all commands."


class NoContext(CommandError):
    code = "no-context"
    grpc_status = "FAILED_PRECONDITION"
    message = "There is no context to work on"
    remedy = "Make one: CREATE CONTEXT <name> WITH IP <ip>, with the address of an SN."


class UnknownContext(CommandError):
    code = "unknown-context"
    grpc_status = "NOT_FOUND"
    message = "There is no context {context}; there is {known}"
    remedy = "Correct the name, or make it with CREATE CONTEXT."


class ContextNameTaken(CommandError):
    code = "context-name-taken"
    grpc_status = "ALREADY_EXISTS"
    message = "There is already a context {context}, for {address}"
    remedy = "Choose another name, or switch to it with SWITCH CONTEXT."


class TooManyContexts(CommandError):
    code = "too-many-contexts"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "This session has {limit} {what}, and more are not kept"
    remedy = "Use those that there are, or begin another session."


class TooManySessions(CommandError):
    code = "too-many-sessions"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "This SWCI serves {limit} sessions, and all of them are in use"
    remedy = "End streams and waits that nobody needs, or use one session for several (header Swci-Session)."


class SwciStopping(CommandError):
    code = "swci-stopping"
    grpc_status = "UNAVAILABLE"
    message = "This SWCI is being stopped, and gives up what it was asked"
    remedy = "Ask again when it runs again; tasks go on without it."


class UnknownVariable(CommandError):
    code = "unknown-variable"
    grpc_status = "NOT_FOUND"
    message = "The context {context} has no variable {variable}; it has {known}"
    remedy = "Set it with SET CONTEXT ENV."


class OutsideUsrDir(CommandError):
    code = "outside-usr-dir"
    grpc_status = "PERMISSION_DENIED"
    message = "{path} lies outside of the usr-dir, {root}"
    remedy = "Put the file there, or start SWCI with another --usr-dir."


class FileUnusable(CommandError):
    code = "file-unusable"
    message = "The file {path} cannot be used: {problem}"
    remedy = "Correct it, or name another one; LS lists what there is."


class UnknownPeer(CommandError):
    code = "unknown-peer"
    grpc_status = "NOT_FOUND"
    message = "The taskrunner {taskrunner} has no peer {peer}; it has {known}"
    remedy = "LIST TASKRUNNER PEERS lists them."


class TaskFailed(CommandError):
    code = "task-failed"
    grpc_status = "ABORTED"
    message = "The task {task} ended with ERROR on {taskrunner}: {reasons}"
    remedy = "GET TASKRUNNER PEER STATUS {taskrunner} <index> says more; the SWOP's log has all of it."


class TaskTakenAway(CommandError):
    code = "task-taken-away"
    grpc_status = "ABORTED"
    message = "The taskrunner {taskrunner} was reset while {task} was waited for"
    remedy = "Ask who reset it, and assign the task again."


class WaitedInVain(CommandError):
    code = "waited-in-vain"
    grpc_status = "DEADLINE_EXCEEDED"
    message = "{what} after {limit}: {states}"
    remedy = "It goes on; wait again, or raise {setting}."
