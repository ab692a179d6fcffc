"""The pipes between ML and SL: exit code 16."""

from services.errors.base import SwarmError


class MLChannelError(SwarmError):
    code = "channel"
    grpc_status = "ABORTED"
    exit_code = 16
    message = "The channel to the ML program failed: {problem}"
    remedy = "See the output of the ML program."


class NoPipes(MLChannelError):
    code = "no-pipes"
    message = "The pipe {path} cannot be created: {problem}"
    remedy = "Choose a directory of a local disk that this user may write: --data-dir of an SL, --dir of `swarm up`."


class MLGone(MLChannelError):
    code = "ml-gone"
    message = "The ML program of {node} ended {when}"
    remedy = "See its output for the cause, then start it and its SL again."


class SLStopped(MLChannelError):
    code = "sl-stopped"
    message = "The SL {node} was stopped"
    remedy = "Start it and its ML program again; they continue from the last merged model."


class ProtocolMismatch(MLChannelError):
    code = "protocol-mismatch"
    message = "The ML program speaks version {theirs} of the channel, this SL version {ours}"
    remedy = "Install the same release of swarm-learning on both sides."
