"""geth, the embedded chain, or a transaction: exit code 13."""

from services.errors.base import SwarmError


class ChainError(SwarmError):
    code = "chain"
    grpc_status = "INTERNAL"
    exit_code = 13
    message = "The chain failed: {problem}"
    remedy = "See {log}."


class GethNotFound(ChainError):
    code = "geth-not-found"
    message = "geth is not on the PATH"
    remedy = "Run `make setup` (it builds geth if Go is installed), or choose --chain embedded."


class ChainLibraryMissing(ChainError):
    code = "chain-library-missing"
    message = "This installation lacks {library}, which every node that reads or writes the chain needs"
    remedy = "Install it: pip install 'swarm-learning[services]'. The images sn and swop contain it."


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
    """A contract's named error for which there is no class here."""

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
    message = "The account {account} is the last one that may write to this swarm's contracts"
    remedy = "Register another SN before this one is removed."


class NoOrganizations(ChainError):
    code = "no-organizations"
    grpc_status = "FAILED_PRECONDITION"
    message = "This swarm began without a trust file, so it is a single organization, and no other can join"
    remedy = "Begin a new swarm whose sentinel has a trust file (--trust)."


class SNNotVotedIn(ChainError):
    code = "sn-not-voted-in"
    grpc_status = "FAILED_PRECONDITION"
    message = "The SN {name} of {organization} needs the votes of the organizations in this swarm"
    remedy = "Have administrators vote for it (swarm org list, swarm org approve), then start it again."


class SNAwaitsVotes(SNNotVotedIn):
    code = "sn-awaits-votes"
    remedy = "Have administrators approve proposal {number} (swarm org approve), then start it again."


class NoSNWouldBeLeft(ChainError):
    code = "no-sn-would-be-left"
    grpc_status = "FAILED_PRECONDITION"
    message = "{organization} has all SNs of this swarm, so it cannot be removed"
    remedy = "Have an SN of another organization join first."


class NoSuchProposal(ChainError):
    code = "no-such-proposal"
    grpc_status = "NOT_FOUND"
    message = "There is no open proposal {number}"
    remedy = "`swarm org list` shows those that are open."


class ProposedByAnother(ChainError):
    code = "proposed-by-another"
    grpc_status = "PERMISSION_DENIED"
    message = "Proposal {number} is from {organization}, and only that organization may withdraw it"
    remedy = "Have an administrator of {organization} withdraw it, or do not vote for it."


class TooManyProposals(ChainError):
    code = "too-many-proposals"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "{organization} already has {limit} open proposals, the most that it may have"
    remedy = "Have some of them voted on, or withdraw them (swarm org list, swarm org withdraw)."


class AnotherOrganization(ChainError):
    code = "another-organization"
    grpc_status = "PERMISSION_DENIED"
    message = "Only {organization} can remove the account of one of its SNs"
    remedy = "Have an SN of that organization do it, or propose to remove the organization."


class VotesForAnother(ChainError):
    code = "votes-for-another"
    grpc_status = "PERMISSION_DENIED"
    message = "{sn} votes for {organization}, but this is an administrator of {of}"
    remedy = "Ask an SN of {of}."


class ServesOneSN(ChainError):
    code = "serves-one-sn"
    grpc_status = "FAILED_PRECONDITION"
    message = "{name} runs the {kind} chain, which serves one SN only"
    remedy = "Start its swarm again with --chain geth and another --data-dir, then join it."


class AnotherSwarm(ChainError):
    code = "another-swarm"
    grpc_status = "FAILED_PRECONDITION"
    message = "{name} belongs to another swarm: its chain is {theirs}, ours is {ours}"
    remedy = (
        "Correct --sentinel-ip, or start this node with an empty --data-dir; after `swarm chain recover`, with nothing "
        "but account.key in it."
    )


class NotInSync(ChainError):
    code = "not-in-sync"
    grpc_status = "UNAVAILABLE"
    message = "The chain reached only block {have} of {need}, and made no progress for {seconds} s"
    remedy = "More than half of the SNs that seal must be reachable, on their API ports; the log of {log} says more."
