"""Every error that a training script, or the other end of its channel, can raise. Imports nothing.

SwarmCallbackError
├── ParameterError         an argument of SwarmCallback, or a variable of its environment
├── UsageError             the callback's methods were called in an order that makes no sense
├── StreamError            a parameter stream that is damaged, or parameters that a stream cannot hold
├── WireError              a message of the channel that is damaged or not expected here
│   └── VersionMismatch    the two ends speak different versions
└── ChannelError           the pipes themselves
    ├── ChannelClosed      the other end is gone
    ├── PipeNotMade        a pipe cannot be created
    ├── PipesInUse         another program uses the pipes
    └── Interrupted        another thread of this program ended the wait
Refused                    (a SwarmCallbackError) the SL sidecar ended the session, with its own message

An instance takes the facts of its message by keyword; ``str()`` says what is wrong and what to do.
"""

from typing import Any, ClassVar


class SwarmCallbackError(Exception):
    """Base class. ``message`` and ``remedy`` are format strings over the facts given by keyword."""

    message: ClassVar[str] = "{problem}"
    remedy: ClassVar[str] = "See the log of the SL sidecar."

    def __init__(self, **facts: Any) -> None:
        super().__init__(facts)
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.message.format(**self.facts)}. {self.remedy.format(**self.facts)}".strip()


class ParameterError(SwarmCallbackError):
    message = "{name} is {value!r}, but {problem}"
    remedy = "Correct it in the call of SwarmCallback."


class UnknownParameter(ParameterError):
    message = "SwarmCallback has no parameter {name}"
    remedy = "Did you mean {nearest}?"


class CannotEvaluate(ParameterError):
    """The user's validation data or function fails when it is tried before the first merge."""

    message = "{name} cannot be evaluated with this model ({problem})"
    remedy = "Give batches that the model accepts, or a function evaluate=... from the model to the loss."


class MissingParameter(ParameterError):
    message = "SwarmCallback needs {name}: {problem}"
    remedy = "Give it in the call of SwarmCallback."


class EnvironmentVariableError(ParameterError):
    message = "The environment variable {name} is {value!r}, but {problem}"
    remedy = "Correct or unset it."


class NoChannel(ParameterError):
    message = "There is no SL sidecar to talk to: {name} is not set"
    remedy = "Start this program with `swarm up -- ...` or beside an SL, or set SWARM_LOOPBACK=true to train alone."


class UsageError(SwarmCallbackError):
    message = "{problem}"
    remedy = "Call on_train_begin, then on_batch_end after each batch, then on_train_end, once per training."


class Unsupported(UsageError):
    """A feature that the platform does not have."""

    remedy = "{instead}"


class UngroupedRanks(UsageError):
    """Rank 0 cannot pass the swarm's answers on to the other ranks."""

    message = "This program is one of {ranks} ranks (WORLD_SIZE), which are not connected yet"
    remedy = "Call torch.distributed.init_process_group before creating SwarmCallback; rank 0 then talks to the SL."


class AlreadyTraining(UsageError):
    """A notebook cell was run again, or the program has two callbacks at once."""

    message = "This program already has a SwarmCallback, whose training has not ended"
    remedy = (
        "Continue with that one. To begin again, restart this program (in a notebook: its kernel) and the SL. Each of "
        "several trainings, such as folds, needs its own program and SL."
    )


class AlreadyTrained(UsageError):
    """A second training in one program."""

    message = "This program's training is over, and its SL sidecar has ended with it"
    remedy = (
        "For several phases, give the same SwarmCallback(..., phases=2) to each fit; it ends the training with the "
        "last one. For folds, start `swarm up -- ...` once for each."
    )


class SessionEnded(UsageError):
    """The program continues after an error that ended the session."""

    message = "The training of this SwarmCallback has ended with an error, and its SL sidecar with it"
    remedy = "Restart this program (in a notebook: its kernel) and the SL."


class NotOneModel(UsageError):
    """A phase shares other parameters than the previous one."""

    message = (
        "The parameter {name} is not what it was in the previous phase: it is shared in only one of them, or has "
        "another shape"
    )
    remedy = "Share the whole model in every phase, frozen or not (share='all'), or name what is shared by patterns."


class EndedEarly(SwarmCallbackError):
    """Sent to the SL when the process ends during its training."""

    message = "The program ended during its training, {reason}"
    remedy = "See its output; your own loop must call on_train_end after its last batch."


class Stopped(SwarmCallbackError, KeyboardInterrupt):
    """Ctrl-C while this side waited for the swarm."""

    message = "The program was interrupted while it waited for the swarm"
    remedy = "The SL was told; the model holds the last merged parameters that were loaded."


class NoModel(UsageError):
    message = "SwarmCallback does not know the model"
    remedy = "Give the callback to model.fit, or call set_model(model) before on_train_begin in your own loop."


class NotFinite(SwarmCallbackError):
    """This node's parameters were not finite in several rounds in a row."""

    message = "The parameters of this node were not finite {times} times in a row ({note})"
    remedy = "Lower its learning rate, or check its data. The model holds the last merged parameters."


class StreamError(SwarmCallbackError):
    message = "The parameter stream is not usable: {problem}"
    remedy = "None of it was used; make sure that both sides run the same release of swarm-learning."


class NotStorable(StreamError):
    """A parameter that a stream cannot hold."""

    message = "The parameter {name} cannot be shared: {problem}"
    remedy = "Convert it, or keep it out of the model's saved state."


class NotLoaded(StreamError):
    """A merged value did not reach the model."""

    message = "The parameter {name} cannot be merged, because the model does not accept its value: {problem}"
    remedy = "Make state_dict and load_state_dict of its module match, or keep it out of the saved state."


class NotTheSameConstants(StreamError):
    """A buffer that holds infinity or NaN from the beginning differs between nodes."""

    message = "The buffer {name} holds values that are not finite and differ between nodes"
    remedy = "Give every node the same values, or do not share the buffer: register_buffer(..., persistent=False)."


class NotTheSameIndices(StreamError):
    """An integer buffer, such as a permutation, differs between nodes and was averaged."""

    message = "The buffer {name} holds integers that differ between nodes and have no mean"
    remedy = "Begin with the same values on every node (a common seed), or do not share it: keep_local=[{name!r}]."


class WireError(SwarmCallbackError):
    message = "A message of the channel is not usable: {problem}"
    remedy = "Make sure that nothing else uses the two pipes."


class VersionMismatch(WireError):
    message = "The other side speaks version {theirs} of the channel, this side version {ours}"
    remedy = "Install the same release of swarm-learning on both sides."


class ChannelError(SwarmCallbackError):
    message = "The channel {path} is not usable: {problem}"
    remedy = "Check SL_REQUEST_CHANNEL and SL_RESPONSE_CHANNEL: they name two pipes that the SL creates."


class ChannelClosed(ChannelError):
    message = "{peer} ended while {doing}"
    remedy = "See its log for the cause, then start both again."


class PipeNotMade(ChannelError):
    """Not every file system has named pipes."""

    message = "The pipe {path} cannot be created: {problem}"
    remedy = "Choose a directory on a local disk to which this user may write."


class PipesInUse(ChannelError):
    """A second program on one pair of pipes."""

    message = "Another program (process {pid}) talks over {path}"
    remedy = "That program continues. Give this one its own SL, or end the other one first."


class Interrupted(ChannelError):
    message = "This program stopped while {doing}"
    remedy = ""


class Refused(SwarmCallbackError):
    """The SL ended the session. ``facts["text"]`` is its message, ``facts["code"]`` its stable code."""

    message = "{text}"
    remedy = ""

    def __str__(self) -> str:
        return str(self.facts["text"])
