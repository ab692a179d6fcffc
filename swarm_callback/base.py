"""The flow of SwarmCallback, the same on every ML platform; a platform supplies five methods."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from swarm_callback import generators, wire
from swarm_callback.best import Best, BestKeeper
from swarm_callback.channel import Data
from swarm_callback.constants import Constants
from swarm_callback.errors import (
    CannotEvaluate,
    NotOneModel,
    ParameterError,
    Stopped,
    SwarmCallbackError,
    Unsupported,
    UsageError,
)
from swarm_callback.examples import Examples
from swarm_callback.files import write_whole
from swarm_callback.history import Merge
from swarm_callback.indices import Indices
from swarm_callback.measures import in_words, read_measures
from swarm_callback.missed import MissedRounds
from swarm_callback.options import DEFAULT_CONTRACT, Options, loopback
from swarm_callback.params import Tensor, decode, encode
from swarm_callback.phases import Begin, Phases
from swarm_callback.platform import Platform
from swarm_callback.rounding import rounded
from swarm_callback.sentences import said, show_own_errors_as_a_sentence
from swarm_callback.session import Session
from swarm_callback.sharing import Shared, completed
from swarm_callback.tracking import Track, tracker

SessionOrNone = TypeVar("SessionOrNone", Session, Session | None)


class SwarmCallbackBase(Platform):
    """Merges the model with those of the other nodes: before training, every ``syncFrequency`` batches, and at the end.

    The constructor checks its parameters, opens the session with the SL, and waits until the node is enrolled. With
    SWARM_LOOPBACK=true it only checks the parameters. After ``on_train_end`` the model holds the final merged
    parameters, identical bit by bit on every node.

    Raises SwarmCallbackError, such as ParameterError for a wrong parameter, Refused if the swarm refuses, and
    ChannelClosed if the SL is gone. If the script does not catch it, Python prints its message without a traceback and
    ends with exit code 1, as for every uncaught error.
    """

    def __init__(
        self, syncFrequency: Any = None, minPeers: Any = None, trainingContract: Any = DEFAULT_CONTRACT, **options: Any
    ) -> None:
        show_own_errors_as_a_sentence()
        named = {"syncFrequency": syncFrequency, "minPeers": minPeers, "trainingContract": trainingContract}
        self._options = Options.check(named | options, self.PLATFORMS)
        self.logger = self._options.logger
        self._constants = Constants()
        self._indices = Indices(self.logger)
        self._shared = Shared(self._options.share, self._options.keep_local)
        self._batches_done = self._merges_between = 0  # between begin and end
        self._missed = MissedRounds(self.logger)
        self._history: list[Merge] = []
        self._track: Track | None = None if self._options.track is None else tracker(self._options.track)
        self._over = False
        self._phases = Phases(self._options.phases)
        self._batches_left = self._interval = self._options.sync_frequency
        self._epochs_done = self._resumed_epochs = 0
        if self._options.optimizer_state != "keep" and not self.RESETS_OPTIMIZERS:
            problem = "there is no optimizer of this platform that could be reset"
            raise ParameterError(name="optimizerState", value=self._options.optimizer_state, problem=problem)
        self._examples = Examples.of(self._options, self.COUNTS_EXAMPLES, self.examples_seen)
        kept = self._options.keep_best
        self._keeper = None if kept is None else BestKeeper(kept, self.logger)
        self.verify_platform(self._options)
        for reason, names in self._options.without_effect(self.WITHOUT_EFFECT).items():
            self.logger.warning("No effect here: %s (%s)", ", ".join(names), reason)
        if self._options.validation_data is not None:
            self.set_validation_data(self._options.validation_data, self._options.validation_batch_size)
        self._tried = bool(self._try(self.try_evaluation))
        self._session: Session | None = None
        if self.OPENS_AT_ONCE:
            self.open_session()

    # --- what the training calls ---------------------------------------------------------------------

    @property
    def training_over(self) -> bool:
        """Whether the whole swarm has finished: further local training would be thrown away."""
        return self._over

    @property
    def history(self) -> tuple[Merge, ...]:
        """One ``Merge`` for each merged model that this program received, in order."""
        return tuple(self._history)

    @property
    def best(self) -> Best | None:
        """The best merged model kept here so far (``keepBest``), by the mean metric of all nodes; None before."""
        return None if self._keeper is None else self._keeper.best

    def on_merged(self, round_: int, info: Merge) -> None:
        """Runs after each merged model is loaded and evaluated: calls ``on_merged=``. A subclass may override it."""
        if self._options.on_merged is not None:
            self._options.on_merged(round_, info)

    def proximal_term(self, model: Any) -> Any:
        """Half the squared Euclidean distance of the trained parameters of ``model`` from the last merged model.

        A scalar tensor with a gradient; 0 before the first merge. As a loss, ``loss + mu * swarm.proximal_term(model)``
        is FedProx. Raises Unsupported if users of the platform do not write the loss, or if Keras does not run on
        TensorFlow.
        """
        problem = f"There is no proximal term for {self._options.platform}"
        raise Unsupported(problem=problem, instead="Leave it out of the loss.")

    @property
    def initial_epoch(self) -> int:
        """How many epochs this node had done before it was restarted; 0 if it was not.

        To continue there, with ``fit(initial_epoch=...)`` or ``range(...)``, read this before the first epoch; progress
        is then counted from there too. A script that does not read it trains all its epochs, beginning with the merged
        model.
        """
        self.open_session()
        if not self._epochs_done:
            self._epochs_done = self._resumed_epochs
        return self._resumed_epochs

    def on_train_begin(self, logs: Any = None) -> None:
        """First merge: all nodes begin with the same parameters. A later phase continues with those of its model.

        Raises AlreadyTrained after the last phase, NotOneModel if a later phase shares other parameters, NotStorable or
        NotLoaded if a parameter cannot be shared, CannotEvaluate if validation fails.
        """
        begin = self._phases.begin()
        with self._telling_failures(self._session):
            self.check_parameters()
            self._rehearse()
            if begin is Begin.AGAIN:
                self._go_on()
            elif begin is Begin.PHASE:
                self._compare_with_the_phase_before()
        self._warn_of_few_batches()
        if not (self._history or self._over):  # also if an error prevented it before
            self._sync()

    def on_batch_end(self, batch: Any = None, logs: Any = None) -> None:
        """Counts one batch; merges at the end of each interval, which is ``syncFrequency`` batches unless it adapts.

        Raises UsageError before ``on_train_begin``.
        """
        self.count_batches(1)

    def on_epoch_end(self, epoch: Any = None, logs: Any = None) -> None:
        """Counts one epoch, for the progress that the swarm shows."""
        self._epochs_done += 1

    def on_train_end(self, logs: Any = None) -> None:
        """Last merge; returns when the training of the whole swarm is over and its final model is loaded. If more
        phases follow (``phases``), this is an ordinary merge. Raises UsageError without ``on_train_begin``.
        """
        self._phases.end()
        if not self._phases.over:
            self._end_phase()
            return
        told = self.batches_to_come is not None
        if self._batches_done and not self._merges_between and not self._over and not told:
            self.logger.warning(
                "There was no merge between begin and end: %d batches, syncFrequency %d",
                self._batches_done, self._options.sync_frequency,
            )  # fmt: skip
        if self._session is None:
            return
        with self._telling_failures(self._session) as session:
            if self._over:  # what was trained since is not part of the swarm's model
                self._load_merged(session)
            else:
                header, data = self._contribution()
                examples = self._examples.since_merge()
                merged = session.finish(self._epochs_done, self._options.checkin, examples, header, data)
                self._take(session, merged)
            session.bye()
        if self._keeper is not None:
            self._keeper.end()
        self.logger.info("All peers and Swarm training rounds finished. Final Swarm model was loaded.")

    def count_batches(self, count: int) -> None:
        """Counts ``count`` batches at once, for platforms that report several together."""
        self._phases.check_running()
        self._batches_done += count
        self._batches_left -= count
        if self._batches_left > 0 or self._over:
            return
        self._merges_between += 1
        if self._session is None:
            self._batches_left = self._options.sync_frequency
        else:
            self._sync()

    def save_parameters(self, path: str | os.PathLike[str]) -> None:
        """Writes the current parameters of the model to a file, as the stream that the swarm exchanges (safetensors).

        After the training its digest is the one on the chain. The file appears complete or not at all. Raises
        NotStorable, OSError.
        """
        header, data = encode(self._given())
        write_whole(path, [header, *data])

    def load_best(self) -> Best:
        """Loads the best merged parameters kept so far into the model. Raises UsageError if none were kept."""
        if self.best is None:
            raise UsageError(problem="No best merged model was kept")
        self._load(decode(self.best.path.read_bytes()))
        return self.best

    # --- the session ---------------------------------------------------------------------------------

    def connect(self) -> Session:
        """Connects to the SL. A platform with several ranks may override this with a session that they share."""
        return Session.connect(os.environ, self.logger)

    def open_session(self) -> None:
        """Opens the session, unless it is open, and waits for enrolment. No effect with SWARM_LOOPBACK=true."""
        if self._session is None and not loopback(os.environ):
            self._session = self._enrolled()

    def _enrolled(self) -> Session:
        options = self._options
        self._warn_about(options)
        session = self.connect()
        with self._telling_failures(session):
            opened = session.open(
                wire.Open(
                    contract=options.contract,
                    sync_frequency=options.sync_frequency,
                    min_peers=options.min_peers,
                    merge_method=options.merge_method,
                    node_weightage=options.node_weightage,
                    checkin_model_on_train_end=options.checkin,
                    use_adaptive_sync=options.use_adaptive_sync,
                    total_epochs=options.total_epochs,
                    framework=options.platform,
                    pid=os.getpid(),
                    transfer_compression=options.transfer_compression,
                    first_merge=options.first_merge,
                    model_version=options.model_version,
                    weighting=options.weighting,
                    patience=options.patience,
                    metric_down=options.metric_down,
                )
            )
        session.before_next = self._before_next
        place = "joins the running training" if opened.late else "is enrolled"
        self.logger.info("%s %s in %s (round %d)", opened.node, place, options.contract, opened.round)
        if opened.epochs_done:
            self.logger.info("It had done %d epochs when it was interrupted", opened.epochs_done)
        self._resumed_epochs = opened.epochs_done
        return session

    def _warn_about(self, options: Options) -> None:
        if not options.evaluates:
            self.logger.warning("adsValData is not given: there is no loss and no metric to report")
        if not options.total_epochs:
            self.logger.warning("totalEpochs is not given: the progress of this node cannot be shown")

    def _warn_of_few_batches(self) -> None:
        batches = self.batches_to_come
        if batches is not None and batches < self._options.sync_frequency:
            self.logger.warning(
                "There will be no merge between begin and end: %d batches, syncFrequency %d",
                batches, self._options.sync_frequency,
            )  # fmt: skip

    def _sync(self) -> None:
        if self._session is None:
            return
        with self._telling_failures(self._session) as session:
            header, data = self._contribution()
            merged = session.sync(self._epochs_done, self._examples.since_merge(), header, data)
            self._take(session, merged)
            if not merged.training_over:
                self._missed.count(merged)

    def _end_phase(self) -> None:
        if self._session is not None:
            self._session.still_to_come = self._phases.still_to_come
        if not self._over:
            self._sync()
        self.logger.info("Phase %d of %d has ended", self._phases.ended, self._phases.count)

    def _go_on(self) -> None:
        """After an interrupted phase: what it left in the model is not the swarm's."""
        self.logger.warning("The training before was not ended: it goes on from the last merged model")
        if self._session is not None and len(self._session.merged):
            self._load_merged(self._session)

    def _compare_with_the_phase_before(self) -> None:
        """The same parameters are shared in the whole training. Raises NotOneModel."""
        before, now = self.merged_parameters(), self._given()
        for name in sorted({*before, *now} if before else ()):
            if name not in before or name not in now or before[name].shape != now[name].shape:
                raise NotOneModel(name=name)

    def _contribution(self) -> tuple[bytes, list[Data]]:
        """This node's contribution to a round. It is rounded here, so that its digest is that of what is sent."""
        header, data = encode(self._given())
        return header, [*(rounded(header, data) if self._options.transfer_compression == "bf16" else data)]

    def _take(self, session: Session, merged: wire.Merged) -> None:
        """Loads the merged model, reports its loss and metric, and sets the next interval."""
        if merged.training_over and not self._phases.over:
            of = f" of {self._options.total_epochs}" if self._options.total_epochs else ""
            self.logger.warning("The training ended after %d%s epochs here: %s", self._epochs_done, of, merged.note)
        elif merged.note:
            self.logger.info(merged.note)
        self._over = merged.training_over
        self._set_interval(merged)
        if len(session.merged):
            first_of_one = not self._history and self._options.first_merge == "leader"
            self._indices.taking(decode(session.merged), of_one=first_of_one or not merged.contributed)
            self._load_merged(session)
            loss, metric = self._measure()
            total = self._options.total_epochs
            session.report(wire.Report(merged.round, loss, metric, self._epochs_done, total))
            self.logger.info("Round %d merged%s", merged.round, in_words(loss, metric))
            self._tell_merged(merged, loss, metric)

    def _before_next(self, merged: wire.Merged) -> None:
        """Called while the merged model of the previous round is still in memory."""
        if self._keeper is not None and self._session is not None:
            held = self._history[-1].round if self._history else 0
            self._keeper.look(merged.best_round, held, self._session.merged)

    def _set_interval(self, merged: wire.Merged) -> None:
        before, self._interval = self._interval, merged.next_sync_interval or self._options.sync_frequency
        self._batches_left = self._interval
        if merged.pace and before != self._interval:
            self.logger.info("The next merges come every %d batches: %s", self._interval, merged.pace)

    def _tell_merged(self, merged: wire.Merged, loss: float | None, metric: float | None) -> None:
        """Does what the user wants after each merge."""
        info = Merge(
            merged.round, merged.contributed, merged.note, loss, metric, self._epochs_done, self._batches_done,
            self._interval, merged.training_over,
        )  # fmt: skip
        self._history.append(info)
        if self._options.optimizer_state == "reset" and not merged.training_over:
            self.reset_optimizer()
        self._track_merge(info)
        self.on_merged(merged.round, info)

    def _track_merge(self, info: Merge) -> None:
        """A full disk or an unreachable server loses what is tracked, but never stops the training."""
        if self._track is None:
            return
        try:
            self._track(info)
        except Exception as error:  # whatever TensorBoard or MLflow raises
            self.logger.warning("Round %d is not tracked by %s (%s)", info.round, self._options.track, said(error))

    def _measure(self) -> tuple[float | None, float | None]:
        """Loss and metric of the loaded model; an error loses this report, but never stops the training."""
        if not self._options.evaluates:
            return None, None
        try:
            with generators.kept():
                loss, metric = (None if value is None else float(value) for value in self._evaluated())
        except Exception as error:  # whatever the user's data or model raises
            self.logger.warning("The merged model could not be evaluated (%s): this report has no value", said(error))
            return None, None
        if self._options.patience and not self._history and metric is None:
            self.logger.warning("Validation gives no metric: this node has no say in earlyStopping")
        return loss, metric

    def _evaluated(self) -> tuple[float | None, float | None]:
        if self._options.evaluate is None:
            return self.evaluate()
        with self.no_trace():
            return read_measures(self._options.evaluate(self.trained_model))

    @property
    def trained_model(self) -> Any:
        """The model that ``evaluate=`` is called with."""
        return self._options.model

    def _rehearse(self) -> None:
        """Finds errors of the first merge before it; without a swarm, encodes and evaluates in full."""
        if not self._tried:
            self._try(self.try_evaluation)
        if self._session is None:
            encode(self._given())
            if self._options.evaluates:
                self._try(self._evaluated)

    def _try(self, evaluation: Callable[[], object]) -> object:
        """Runs ``evaluation``. Raises CannotEvaluate for any exception that is not a SwarmCallbackError."""
        name = "adsValData" if self._options.evaluate is None else "evaluate"
        try:
            with generators.kept():
                return evaluation()
        except SwarmCallbackError:
            raise
        except Exception as error:
            raise CannotEvaluate(name=name, problem=said(error)) from error

    def _given(self) -> Mapping[str, Tensor]:
        shared = self.extract_parameters()
        if not self._shared.everything:
            shared = self._shared.of(shared, self.trainable())
        untrained = self.untrained()
        self._indices.giving(shared, untrained)
        return self._constants.hidden(shared, untrained)

    def merged_parameters(self) -> Mapping[str, Tensor]:
        """The last merged parameters by name, valid until the next exchange; empty before the first merge."""
        if self._session is None or not len(self._session.merged):
            return {}
        return self._constants.shown(decode(self._session.merged))

    def _load_merged(self, session: Session) -> None:
        self._load(decode(session.merged))

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        merged = self._constants.shown(tensors)
        self.load_parameters(merged if self._shared.everything else completed(merged, self.extract_parameters()))

    @contextmanager
    def _telling_failures(self, session: SessionOrNone) -> Iterator[SessionOrNone]:
        try:
            yield session
        except SwarmCallbackError as error:
            if session is not None:
                session.abort(error)
            raise
        except KeyboardInterrupt:
            stopped = Stopped()
            if session is not None:
                session.abort(stopped)
            raise stopped from None
