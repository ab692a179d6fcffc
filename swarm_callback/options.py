"""The parameters of SwarmCallback, checked before anything else happens. No I/O."""

import difflib
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from swarm_callback.errors import EnvironmentVariableError, MissingParameter, ParameterError, UnknownParameter
from swarm_callback.history import Merge

DEFAULT_CONTRACT: Final = "defaultbb.cqdb.sml.hpe"
LOOPBACK_VARIABLE: Final = "SWARM_LOOPBACK"
HF_MODES: Final = ("full", "peft")
SHARES: Final = ("all", "trainable")
FIRST_MERGES: Final = ("leader", "average")
COMPRESSIONS: Final = ("none", "lossless", "bf16")
OPTIMIZER_STATES: Final = ("keep", "reset")
CHECKINS: Final = ("snapshot", "active", "inactive")
DEFAULT_MERGE_METHOD: Final = "mean"
MAX_WEIGHTAGE: Final = 100
SAMPLES: Final = "samples"
METRIC_MODES: Final = ("max", "min")
_MAX_COUNT: Final = 2**32 - 1  # counts are 32 bits wide on the chain
_NAMES: Final = (
    "syncFrequency", "minPeers", "trainingContract", "useAdaptiveSync", "adsValData", "adsValBatchSize",
    "checkinModelOnTrainEnd", "nodeWeightage", "mergeMethod", "transferCompression", "mlPlatform",
    "ml_platform", "logger", "totalEpochs",
    "model", "lossFunction", "lossFunctionArgs", "metricFunction", "metricFunctionArgs", "hfMode", "tf", "sess",
    "evaluate", "firstMerge", "modelVersion", "share", "keep_local",
    "earlyStopping", "keepBest", "on_merged", "optimizerState", "optimizer", "track", "phases",
)  # fmt: skip
_OF_VALIDATION: Final = (
    "adsValData", "adsValBatchSize", "lossFunction", "lossFunctionArgs", "metricFunction", "metricFunctionArgs",
)  # fmt: skip
_WITHOUT_EFFECT: Final = dict.fromkeys(("tf", "sess"), "there are no sessions of TensorFlow 1")


@dataclass(frozen=True)
class Options:
    """The checked parameters of a SwarmCallback. ``total_epochs``: 0 if not given. ``given``: names of the parameters
    that were given and are not None.
    """

    sync_frequency: int
    min_peers: int
    contract: str
    use_adaptive_sync: bool
    validation_data: Any
    validation_batch_size: int | None
    checkin: str
    node_weightage: int
    weighting: str
    merge_method: str
    transfer_compression: str
    platform: str
    total_epochs: int
    model: Any
    loss_function: str | None
    loss_arguments: Mapping[str, Any]
    metric_function: str | None
    metric_arguments: Mapping[str, Any]
    logger: logging.Logger
    evaluate: Callable[[Any], Any] | None = None
    first_merge: str = "leader"
    model_version: str = ""
    hf_mode: str = "full"
    share: str | tuple[str, ...] = "all"
    keep_local: tuple[str, ...] = ()
    patience: int = 0
    metric_down: bool = False
    keep_best: str | None = None
    on_merged: Callable[[int, Merge], object] | None = None
    optimizer_state: str = "keep"
    optimizer: Any = None
    track: str | None = None
    phases: int = 1
    given: frozenset[str] = frozenset()

    def without_effect(self, here: Mapping[str, str]) -> dict[str, list[str]]:
        """Given parameters without effect, grouped by reason. ``here``: those of this platform, with the reason."""
        reasons = dict(_WITHOUT_EFFECT) | dict(here)
        if self.evaluate is not None:
            reasons |= dict.fromkeys(_OF_VALIDATION, "evaluate is given")
        if self.optimizer_state != "reset":
            reasons.setdefault("optimizer", "optimizerState is not reset")
        for name, arguments in (("lossFunction", "lossFunctionArgs"), ("metricFunction", "metricFunctionArgs")):
            if name not in self.given:
                reasons.setdefault(arguments, f"{name} is not given")
        if self.hf_mode == HF_MODES[0]:
            reasons.pop("hfMode", None)
        found: dict[str, list[str]] = {}
        for name, reason in reasons.items():
            if name in self.given:
                found.setdefault(reason, []).append(name)
        return found

    @property
    def evaluates(self) -> bool:
        """Whether merged models are evaluated."""
        return self.validation_data is not None or self.evaluate is not None

    @classmethod
    def check(cls, given: Mapping[str, Any], platforms: tuple[str, ...]) -> Self:
        """Checks ``given``, the parameters by their public names. ``platforms``: accepted values of mlPlatform, the
        default first. Raises ParameterError.
        """
        for name in given:
            if name not in _NAMES:
                raise UnknownParameter(name=name, nearest=difflib.get_close_matches(name, _NAMES, n=1, cutoff=0.0)[0])
        read = _Reader(given)
        by_samples = given.get("nodeWeightage") == SAMPLES
        patience, metric_down = _early_stopping(read)
        options = cls(
            sync_frequency=read.count("syncFrequency", 1, _MAX_COUNT),
            min_peers=read.count("minPeers", 1, _MAX_COUNT),
            contract=read.text("trainingContract", DEFAULT_CONTRACT),
            use_adaptive_sync=read.flag("useAdaptiveSync"),
            validation_data=given.get("adsValData"),
            validation_batch_size=read.optional_count("adsValBatchSize"),
            checkin=read.choice("checkinModelOnTrainEnd", CHECKINS),
            node_weightage=1 if by_samples else read.count("nodeWeightage", 1, MAX_WEIGHTAGE, 1),
            weighting=SAMPLES if by_samples else "fixed",
            # Only the SLs know which methods exist: they may have more than the built-in ones.
            merge_method=read.text("mergeMethod", DEFAULT_MERGE_METHOD).lower(),
            transfer_compression=read.choice("transferCompression", COMPRESSIONS),
            platform=_platform(read, platforms),
            total_epochs=read.count("totalEpochs", 0, _MAX_COUNT, 0),
            model=given.get("model"),
            loss_function=read.optional_text("lossFunction"),
            loss_arguments=read.mapping("lossFunctionArgs"),
            metric_function=read.optional_text("metricFunction"),
            metric_arguments=read.mapping("metricFunctionArgs"),
            logger=_logger(given.get("logger")),
            evaluate=read.function("evaluate", "the model"),
            first_merge=read.choice("firstMerge", FIRST_MERGES),
            model_version=read.optional_text("modelVersion") or "",
            hf_mode=read.choice("hfMode", HF_MODES),
            share=_share(read),
            keep_local=read.patterns("keep_local"),
            patience=patience,
            metric_down=metric_down,
            keep_best=read.optional_text("keepBest"),
            on_merged=read.function("on_merged", "the number of the round and what it came to"),
            optimizer_state=read.choice("optimizerState", OPTIMIZER_STATES),
            optimizer=given.get("optimizer"),
            track=read.optional_text("track"),
            phases=read.count("phases", 1, _MAX_COUNT, 1),
            given=frozenset(name for name, value in given.items() if value is not None),
        )
        if options.use_adaptive_sync and not options.evaluates:
            raise MissingParameter(name="adsValData", problem="useAdaptiveSync follows the loss on validation data")
        if patience and not options.evaluates:
            raise MissingParameter(name="adsValData", problem="earlyStopping follows the metric on validation data")
        return options


class _Reader:
    """Reads one parameter at a time and checks it. Raises ParameterError."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given

    def count(self, name: str, lowest: int, highest: int, default: int | None = None) -> int:
        value = self.given.get(name, default)
        if value is None and default is None:
            raise MissingParameter(name=name, problem="a whole number above 0")
        limits = f"at least {lowest}" if highest == _MAX_COUNT else f"from {lowest} to {highest}"
        try:
            number = None if isinstance(value, bool) else value.__index__()
        except AttributeError:
            number = None
        if number is None or not lowest <= number <= highest:
            raise ParameterError(name=name, value=value, problem=f"it must be a whole number, {limits}")
        return int(number)

    def optional_count(self, name: str) -> int | None:
        return None if self.given.get(name) is None else self.count(name, 1, _MAX_COUNT)

    def text(self, name: str, default: str) -> str:
        value = self.given.get(name, default)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise ParameterError(name=name, value=value, problem="it must be a name")
        return value

    def optional_text(self, name: str) -> str | None:
        return None if self.given.get(name) is None else self.text(name, "")

    def flag(self, name: str) -> bool:
        value = self.given.get(name, False)
        if not isinstance(value, bool):
            raise ParameterError(name=name, value=value, problem="it must be True or False")
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """One of ``choices``, in upper or lower case; the first by default."""
        value = self.given.get(name, choices[0])
        folded = value.lower() if isinstance(value, str) else value
        for choice in choices:
            if folded == choice.lower():
                return choice
        raise ParameterError(name=name, value=value, problem=f"it must be {_one_of(choices)}")

    def function(self, name: str, takes: str) -> Callable[..., Any] | None:
        value = self.given.get(name)
        if value is not None and not callable(value):
            raise ParameterError(name=name, value=value, problem=f"it must be a function that takes {takes}")
        return value

    def patterns(self, name: str) -> tuple[str, ...]:
        value = self.given.get(name, ())
        if not isinstance(value, (list, tuple)) or not all(isinstance(pattern, str) and pattern for pattern in value):
            raise ParameterError(name=name, value=value, problem="it must be a list of names or patterns")
        return tuple(value)

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self.given.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise ParameterError(name=name, value=value, problem="it must be a dictionary of arguments")
        return dict(value or {})


def loopback(environment: Mapping[str, str]) -> bool:
    """Whether SWARM_LOOPBACK asks for training alone. Raises EnvironmentVariableError for an unknown value."""
    value = environment.get(LOOPBACK_VARIABLE, "")
    if value.lower() not in ("", "true", "false", "1", "0"):
        raise EnvironmentVariableError(name=LOOPBACK_VARIABLE, value=value, problem="it must be true or false")
    return value.lower() in ("true", "1")


def _platform(read: _Reader, platforms: tuple[str, ...]) -> str:
    spellings = [name for name in ("mlPlatform", "ml_platform") if read.given.get(name) is not None]
    found = {read.choice(name, platforms) for name in spellings}
    if len(found) > 1:
        value = read.given["mlPlatform"]
        raise ParameterError(name="mlPlatform", value=value, problem="ml_platform says something else")
    return found.pop() if found else platforms[0]


def _share(read: _Reader) -> str | tuple[str, ...]:
    value = read.given.get("share", SHARES[0])
    return read.choice("share", SHARES) if isinstance(value, str) else read.patterns("share")


def _early_stopping(read: _Reader) -> tuple[int, bool]:
    """Patience (0: off), and whether a smaller metric is better. With ``keepBest`` alone, patience never runs out."""
    given = read.mapping("earlyStopping")
    for name in given:
        if name not in {"patience", "mode"}:
            problem = "it must be a dictionary with patience, and mode if need be"
            raise ParameterError(name="earlyStopping", value=dict(given), problem=problem)
    inner = _Reader(given)
    patience = inner.count("patience", 1, _MAX_COUNT, _MAX_COUNT)
    asked = bool(given) or read.given.get("keepBest") is not None
    return patience if asked else 0, inner.choice("mode", METRIC_MODES) == "min"


def _logger(given: object) -> logging.Logger:
    if isinstance(given, logging.Logger):
        return given
    if given is not None:
        raise ParameterError(name="logger", value=given, problem="it must be a logging.Logger")
    own = logging.getLogger("SwarmCallback")
    if not any(isinstance(handler, _ToStdout) for handler in own.handlers):
        handler = _ToStdout()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        own.addHandler(handler)
        own.setLevel(logging.INFO)
        own.propagate = False
    return own


class _ToStdout(logging.Handler):
    """Looks up sys.stdout for each record, because notebooks and tests replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stdout.write(f"{self.format(record)}\n")
        sys.stdout.flush()


def _one_of(choices: tuple[str, ...]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
