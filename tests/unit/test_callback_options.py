"""The parameters of SwarmCallback: what each refusal says."""

import logging

import numpy as np
import pytest

from swarm_callback.errors import EnvironmentVariableError, ParameterError, SwarmCallbackError
from swarm_callback.options import Options, loopback

GOOD = {"syncFrequency": 128, "minPeers": 2}
CALL = "Correct it in the call of SwarmCallback."


def check(**given) -> Options:
    return Options.check(GOOD | given, ("KERAS", "TF"))


def test_defaults_are_those_of_the_product():
    options = check()
    assert options.contract == "defaultbb.cqdb.sml.hpe"
    assert (options.sync_frequency, options.min_peers, options.node_weightage) == (128, 2, 1)
    assert (options.checkin, options.merge_method, options.platform) == ("snapshot", "mean", "KERAS")
    assert (options.total_epochs, options.use_adaptive_sync, options.validation_data) == (0, False, None)


def test_the_own_logger_writes_each_line_once(capsys):
    for logger in (check().logger, check().logger):
        assert (logger.name, logger.level, logger.propagate) == ("SwarmCallback", logging.INFO, False)
    logger.info("Round %d merged", 3)
    assert capsys.readouterr().out.endswith("INFO SwarmCallback: Round 3 merged\n")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"syncFrequency": 0}, f"syncFrequency is 0, but it must be a whole number, at least 1. {CALL}"),
        (
            {"syncFrequency": None},
            "SwarmCallback needs syncFrequency: a whole number above 0. Give it in the call of SwarmCallback.",
        ),
        ({"syncFrequency": True}, f"syncFrequency is True, but it must be a whole number, at least 1. {CALL}"),
        ({"syncFrequency": 1.5}, f"syncFrequency is 1.5, but it must be a whole number, at least 1. {CALL}"),
        ({"syncFrequency": "8"}, f"syncFrequency is '8', but it must be a whole number, at least 1. {CALL}"),
        ({"syncFrequency": 2**32}, f"syncFrequency is {2**32}, but it must be a whole number, at least 1. {CALL}"),
        ({"minPeers": -1}, f"minPeers is -1, but it must be a whole number, at least 1. {CALL}"),
        ({"nodeWeightage": 101}, f"nodeWeightage is 101, but it must be a whole number, from 1 to 100. {CALL}"),
        ({"nodeWeightage": 0}, f"nodeWeightage is 0, but it must be a whole number, from 1 to 100. {CALL}"),
        ({"totalEpochs": -1}, f"totalEpochs is -1, but it must be a whole number, at least 0. {CALL}"),
        ({"trainingContract": None}, f"trainingContract is None, but it must be a name. {CALL}"),
        ({"trainingContract": " "}, f"trainingContract is ' ', but it must be a name. {CALL}"),
        (
            {"transferCompression": "zip"},
            f"transferCompression is 'zip', but it must be none, lossless or bf16. {CALL}",
        ),
        ({"mergeMethod": 3}, f"mergeMethod is 3, but it must be a name. {CALL}"),
        ({"mergeMethod": None}, f"mergeMethod is None, but it must be a name. {CALL}"),
        (
            {"checkinModelOnTrainEnd": "later"},
            f"checkinModelOnTrainEnd is 'later', but it must be snapshot, active or inactive. {CALL}",
        ),
        ({"mlPlatform": "PYTORCH"}, f"mlPlatform is 'PYTORCH', but it must be KERAS or TF. {CALL}"),
        ({"ml_platform": "JAX"}, f"ml_platform is 'JAX', but it must be KERAS or TF. {CALL}"),
        (
            {"mlPlatform": "KERAS", "ml_platform": "TF"},
            f"mlPlatform is 'KERAS', but ml_platform says something else. {CALL}",
        ),
        ({"useAdaptiveSync": 1}, f"useAdaptiveSync is 1, but it must be True or False. {CALL}"),
        (
            {"useAdaptiveSync": True},
            "SwarmCallback needs adsValData: useAdaptiveSync follows the loss on validation data. "
            "Give it in the call of SwarmCallback.",
        ),
        ({"adsValBatchSize": 0}, f"adsValBatchSize is 0, but it must be a whole number, at least 1. {CALL}"),
        ({"logger": "stdout"}, f"logger is 'stdout', but it must be a logging.Logger. {CALL}"),
        ({"lossFunctionArgs": [1]}, f"lossFunctionArgs is [1], but it must be a dictionary of arguments. {CALL}"),
        ({"lossFunction": 3}, f"lossFunction is 3, but it must be a name. {CALL}"),
        ({"syncfrequency": 3}, "SwarmCallback has no parameter syncfrequency. Did you mean syncFrequency?"),
        ({"metricFunctArgs": {}}, "SwarmCallback has no parameter metricFunctArgs. Did you mean metricFunctionArgs?"),
        ({"max_peers": 3}, "SwarmCallback has no parameter max_peers. Did you mean minPeers?"),
    ],
)
def test_each_refusal_is_one_clear_sentence(given, sentence):
    with pytest.raises(ParameterError) as refused:
        check(**given)
    assert str(refused.value) == sentence


@pytest.mark.parametrize("word", ["MEAN", "Mean", "mean", "CoordMedian", "geomedian", "trimmed_mean", "krum", "Own"])
def test_the_merge_method_is_taken_in_any_case_and_left_for_the_sl_to_know(word):
    assert check(mergeMethod=word).merge_method == word.lower()


@pytest.mark.parametrize("spelling", ["mlPlatform", "ml_platform"])
def test_both_spellings_of_the_platform_count(spelling):
    assert check(**{spelling: "tf"}).platform == "TF"


def test_numpy_integers_are_whole_numbers():
    options = check(syncFrequency=np.int64(7))
    assert type(options.sync_frequency) is int


def test_words_of_other_platforms_are_known():
    check(hfMode="peft", tf=None, sess=None, model=object(), lossFunction="X", lossFunctionArgs=None)


@pytest.mark.parametrize(
    ("value", "wanted"), [("true", True), ("True", True), ("1", True), ("false", False), ("", False), ("0", False)]
)
def test_loopback_is_read(value, wanted):
    assert loopback({"SWARM_LOOPBACK": value}) is wanted


def test_loopback_is_off_where_it_is_not_set():
    assert not loopback({})


def test_another_word_for_loopback_is_refused():
    with pytest.raises(EnvironmentVariableError, match=r"SWARM_LOOPBACK is 'ture', but it must be true or false\."):
        loopback({"SWARM_LOOPBACK": "ture"})


def test_every_error_says_what_to_do():
    pending, seen = [SwarmCallbackError], []
    while pending:
        kind = pending.pop()
        seen.append(kind)
        pending += kind.__subclasses__()
        assert kind.message
        assert kind.remedy or kind.__name__ in ("Interrupted", "Refused")
    assert len(seen) > 10
