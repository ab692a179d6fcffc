"""Parameters that are damaged, do not fit, or are not finite: exit code 15."""

from services.errors.base import Fact, SwarmError


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
    remedy = "None of it was used; send it again."


class DigestMismatch(ModelError):
    code = "digest-mismatch"
    found = Fact(str, "found")
    expected = Fact(str, "expected")
    message = "What {node} served is not what the chain records: {found} instead of {expected}"
    remedy = "None of it was used; another holder is asked."


class ModelNotFinite(ModelError):
    code = "not-finite"
    message = "{node} was left out of round {round}: {reason}"
    remedy = "Lower the learning rate or check its data; the node can continue from the last merged model."


class LeftOutOfRound(ModelError):
    code = "left-out-of-round"
    message = "{node} was left out of round {round}: {reason}"
    remedy = "There is no merged model yet to continue from; remove the cause and start this node again."


class ResultUnavailable(ModelError):
    code = "result-unavailable"
    grpc_status = "UNAVAILABLE"
    message = "Nobody who holds the result of round {round} could serve it ({tried})"
    remedy = "Start one of these nodes again."
