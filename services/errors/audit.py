"""The record of a training, or a model file that does not match it: exit code 19."""

from services.errors.base import SwarmError


class AuditError(SwarmError):
    code = "audit"
    exit_code = 19
    message = "The record of {contract} cannot be relied on: {problem}"
    remedy = (
        "Read it from another SN (--sn-ip). If that one shows the same, keep both records and ask who ran the nodes."
    )


class ModelsDiffer(AuditError):
    code = "models-differ"
    message = "{count} of {total} model files in {dir} are not what the record of {contract} says: {files}"
    remedy = "Do not use them; take the model with the digest {digest} from a node that holds it."


class NothingToVerify(AuditError):
    code = "nothing-to-verify"
    message = "There is no model file (*.safetensors) in {dir} or below"
    remedy = "Give --verify the directory that the models were saved in."
