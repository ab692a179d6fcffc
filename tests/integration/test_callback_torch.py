"""SwarmCallback for PyTorch: models as parameter streams and back, exactly; and a training in a swarm."""

import logging
import threading

import pytest
import torch
import torch.nn.utils.prune
from callback_swarm import Swarm, stream_of

from swarm_callback import wire
from swarm_callback.errors import MissingParameter, NotLoaded, NotStorable, ParameterError
from swarm_callback.params import decode, encode

DEADLINE_S = 60
LOGGER = logging.getLogger("test-callback")


def torch_callback(module, **options):
    from swarm_callback.torch import SwarmCallback

    return SwarmCallback(1, 1, **{"model": module} | options)


def holding(**tensors):
    """A torch module that has these buffers."""
    module = torch.nn.Module()
    for name, tensor in tensors.items():
        module.register_buffer(name, tensor)
    return module


def every_dtype():
    generator = torch.Generator().manual_seed(0)
    floats = {
        str(dtype).replace("torch.", "a_"): torch.randn(3, 2, generator=generator).to(dtype)
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    }
    integers = {
        str(dtype).replace("torch.", "a_"): torch.randint(0, 100, (2, 2), generator=generator).to(dtype)
        for dtype in (
            torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8
        )
    }  # fmt: skip
    special = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    return floats | integers | {
        "flag": torch.tensor([True, False, True]),
        "zero_d": torch.tensor(3.5, dtype=torch.bfloat16),
        "counter": torch.tensor(7),
        "empty": torch.empty(0, 4),
        "special": special,
        "special_bf16": special.to(torch.bfloat16),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
    }  # fmt: skip


def bits(tensor):
    return tensor.contiguous().flatten().view(torch.uint8).tolist() if tensor.numel() else []


def test_every_dtype_of_a_state_dict_makes_the_round_trip_exactly(loopback):
    source = holding(**every_dtype())
    stream = stream_of(torch_callback(source))
    target = holding(**{name: torch.zeros_like(value) for name, value in every_dtype().items()})
    callback = torch_callback(target)
    callback.load_parameters(decode(stream))
    for name, value in source.state_dict().items():
        found = target.state_dict()[name]
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert bits(found) == bits(value), name
    assert stream_of(callback) == stream


def test_parameters_stay_the_objects_that_the_optimizer_knows(loopback):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    places = [parameter.data_ptr() for parameter in model.parameters()]
    callback = torch_callback(model)
    callback.load_parameters(decode(stream_of(torch_callback(torch.nn.Linear(3, 2)))))
    assert [parameter.data_ptr() for parameter in model.parameters()] == places
    assert optimizer.param_groups[0]["params"][0] is model.weight
    assert model.weight.requires_grad


def test_tied_weights_stay_tied_travel_once_and_are_told(loopback, caplog):
    def tied():
        model = torch.nn.ModuleDict({"embedding": torch.nn.Embedding(5, 3), "head": torch.nn.Linear(3, 5, bias=False)})
        model["head"].weight = model["embedding"].weight
        model.requires_grad_(False)
        return model

    torch.manual_seed(1)
    source, target = tied(), tied()
    caplog.set_level(logging.INFO)
    callback = torch_callback(target, logger=LOGGER)
    callback.on_train_begin()
    assert "head.weight is tied to embedding.weight: it travels once, and stays tied" in caplog.messages
    # So a node where these are not tied has another model, and is refused with the name of this parameter.
    assert set(callback.extract_parameters()) == {"embedding.weight"}
    callback.load_parameters(decode(stream_of(torch_callback(source))))
    assert target["head"].weight is target["embedding"].weight
    assert torch.equal(target["head"].weight, source["head"].weight)
    assert not target["head"].weight.requires_grad


def test_statistics_and_counters_travel_too(loopback):
    names = set(torch_callback(torch.nn.BatchNorm1d(2)).extract_parameters())
    assert names == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def plain_model():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))


def grad_sample(model):
    """Wraps a model as Opacus does."""
    wrapper = torch.nn.Module()
    wrapper._module = model
    return wrapper


def inside(model):
    """A part of a wrapped model."""
    return torch.nn.Sequential(torch.nn.DataParallel(model[0]), model[1], model[2])


@pytest.mark.parametrize(
    "ways", [("compile",), ("parallel",), ("opacus",), ("parallel", "compile"), ("inside",), ("in place",), ("script",)]
)
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_model_has_the_same_names_in_every_wrapper(loopback, ways):
    wrap = {
        "compile": lambda model: torch.compile(model, backend="eager"),
        "parallel": torch.nn.DataParallel,
        "opacus": grad_sample,
        "inside": inside,
        "in place": lambda model: model.compile(backend="eager") or model,
        "script": torch.jit.script,
    }
    model = plain_model()
    expected = stream_of(torch_callback(model))
    for way in ways:
        model = wrap[way](model)
    callback = torch_callback(model)
    assert stream_of(callback) == expected


def test_a_part_of_a_model_that_is_called_module_keeps_its_name(loopback):
    model = torch.nn.ModuleDict({"module": torch.nn.Linear(2, 2, bias=False), "other": torch.nn.Linear(2, 2)})
    assert set(torch_callback(model).extract_parameters()) == {"module.weight", "other.weight", "other.bias"}


def cloned(module):
    module.register_state_dict_post_hook(
        lambda _module, state, _prefix, _meta: state.update({key: value.clone() for key, value in state.items()})
    )
    return module


def halved(module):
    module.register_state_dict_post_hook(
        lambda _module, state, _prefix, _meta: state.update({key: value.half() for key, value in state.items()})
    )
    return module


def own_state_dict(module):
    given = module.state_dict
    module.state_dict = lambda *args, **kwargs: {k: v.detach().clone() for k, v in given(*args, **kwargs).items()}
    return module


def scaled(module):
    """Saves a scale as quantized layers do."""
    module.register_state_dict_post_hook(
        lambda _module, state, prefix, _meta: state.update({f"{prefix}weight": state[f"{prefix}weight"] * 2})
    )
    module.register_load_state_dict_pre_hook(
        lambda _module, state, prefix, *_: state.update({f"{prefix}weight": state[f"{prefix}weight"] / 2})
    )
    return module


@pytest.mark.parametrize("made", [cloned, halved, own_state_dict, scaled])
def test_values_reach_a_module_whose_state_dict_hands_out_copies(serve, made):
    torch.manual_seed(0)
    model = made(torch.nn.Linear(2, 2))
    before = model(torch.ones(1, 2)).detach().clone()
    served = serve(Swarm())
    callback = torch_callback(model, logger=LOGGER)
    callback.on_train_begin()
    first = {name: value.copy() for name, value in callback.extract_parameters().items()}
    assert not torch.allclose(model(torch.ones(1, 2)), before, atol=0.1)
    callback.on_train_end()
    for name, value in callback.extract_parameters().items():
        assert (value == first[name] + value.dtype.type(1)).all()
    served.result(DEADLINE_S)


class WithExtraState(torch.nn.Linear):
    step = 3

    def get_extra_state(self):
        return torch.tensor([self.step])

    def set_extra_state(self, state):
        self.step = int(state)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm")
@pytest.mark.parametrize(
    "made",
    [
        torch.nn.utils.weight_norm,
        torch.nn.utils.parametrizations.weight_norm,
        torch.nn.utils.parametrizations.spectral_norm,
        torch.nn.utils.parametrizations.orthogonal,
        lambda module: torch.nn.utils.prune.l1_unstructured(module, "weight", 0.5),
        lambda module: WithExtraState(2, 2),
    ],
)
def test_values_reach_a_module_that_computes_its_weights_from_others(loopback, made):
    torch.manual_seed(0)
    model = made(torch.nn.Linear(2, 2)).eval()
    callback = torch_callback(model)
    inputs = torch.tensor([[1.0, 2.0]])
    before = model(inputs).detach().clone()
    merged = {name: value + value.dtype.type(1) for name, value in callback.extract_parameters().items()}
    callback.load_parameters(merged)
    for name, value in callback.extract_parameters().items():
        assert (value == merged[name]).all(), name
    assert not torch.allclose(model(inputs), before, atol=0.1)


def test_a_module_that_does_not_take_its_values_back_is_named_before_the_first_round(serve):
    model = cloned(torch.nn.Linear(2, 2))
    model.register_load_state_dict_pre_hook(lambda _module, state, prefix, *_: state[f"{prefix}bias"].zero_())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    swarm = Swarm()
    served = serve(swarm)
    with pytest.raises(NotLoaded, match="The parameter bias cannot be merged"):
        torch_callback(model, logger=LOGGER).on_train_begin()
    served.result(DEADLINE_S)
    assert swarm.kinds() == ["Open", "Abort"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_buffer_whose_elements_are_one_in_memory_is_named(loopback):
    with pytest.raises(NotStorable, match=r"mask cannot be shared.*expanded"):
        torch_callback(holding(mask=torch.ones(1, 2).expand(2, 2))).extract_parameters()


def test_a_causal_mask_stays_and_weights_that_are_not_finite_are_not_hidden(serve):
    import numpy as np

    mask = torch.nn.Transformer.generate_square_subsequent_mask(3)
    model = torch.nn.Linear(2, 2)
    model.register_buffer("mask", mask.clone())
    bodies = []
    served = serve(Swarm(merge=lambda body: bodies.append(body) or body))
    callback = torch_callback(model, logger=LOGGER)
    callback.on_train_begin()
    assert torch.equal(model.mask, mask)
    with torch.no_grad():
        model.weight.fill_(float("nan"))
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert torch.equal(model.mask, mask)
    assert all(np.isfinite(decode(body)["mask"]).all() for body in bodies)
    assert np.isnan(decode(bodies[-1])["weight"]).all()


def test_an_observer_that_has_seen_nothing_stays_as_it_is(serve):
    """Its least value begins at infinity."""
    model = torch.nn.Linear(2, 2)
    model.register_buffer("least", torch.tensor(float("inf")))
    model.register_buffer("hidden", torch.tensor([True, False]))
    served = serve(Swarm(merge=lambda body: body))
    callback = torch_callback(model, logger=LOGGER)
    callback.on_train_begin()
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert model.least == float("inf")
    assert model.hidden.tolist() == [True, False]


def test_parameters_are_not_copied_on_their_way_out(loopback):
    model = torch.nn.Linear(3, 2, bias=False)
    (array,) = torch_callback(model).extract_parameters().values()
    assert array.__array_interface__["data"][0] == model.weight.data_ptr()


@pytest.mark.parametrize("dtype", ["complex64", "float8_e4m3fn"])
def test_a_dtype_without_a_place_is_named(loopback, dtype):
    model = holding(odd=torch.zeros(2).to(getattr(torch, dtype)))
    with pytest.raises(NotStorable, match=f"odd cannot be shared.*{dtype}"):
        encode(torch_callback(model).extract_parameters())


@pytest.mark.parametrize("tensor", [torch.eye(2).to_sparse(), torch.zeros(2, device="meta")])
def test_a_tensor_without_values_of_its_own_is_named(loopback, tensor):
    with pytest.raises(NotStorable, match="odd cannot be shared: it is no ordinary dense tensor"):
        torch_callback(holding(odd=tensor)).extract_parameters()


def test_a_lazy_layer_is_named(loopback):
    with pytest.raises(NotStorable, match="weight cannot be shared: it has no shape"):
        torch_callback(torch.nn.LazyLinear(3)).extract_parameters()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model": None}, "SwarmCallback needs model: the torch.nn.Module that is trained"),
        ({"adsValData": [1]}, "adsValData is 'list', but it must be a DataLoader"),
        (
            {"lossFunction": "CrossEntropy"},
            "lossFunction is 'CrossEntropy', but torch.nn has no such class; perhaps CrossEntropyLoss is meant",
        ),
        (
            {"lossFunction": "MSELoss", "lossFunctionArgs": {"reduce_by": 1}},
            "lossFunctionArgs is {'reduce_by': 1}, but",
        ),
        ({"metricFunction": "Acuracy"}, "perhaps Accuracy is meant"),
        ({"metricFunction": "Accuracy"}, "metricFunctionArgs is {}, but"),
    ],
)
def test_what_pytorch_cannot_use_is_refused_in_a_sentence(loopback, options, sentence):
    with pytest.raises((ParameterError, MissingParameter)) as refused:
        torch_callback(torch.nn.Linear(1, 1), **options)
    assert sentence in str(refused.value)


def test_a_batch_size_beside_a_loader_is_told_to_have_no_effect(loopback, caplog):
    caplog.set_level(logging.INFO)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 2), torch.ones(4, 1)), 2)
    model = torch.nn.Linear(2, 1)
    torch_callback(model, adsValData=loader, adsValBatchSize=4, lossFunction="MSELoss", logger=LOGGER)
    assert "adsValBatchSize has no effect here: a DataLoader has its own batch size" in caplog.messages


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_loss_is_that_of_one_example_whatever_the_batches(loopback, reduction):
    inputs, targets = torch.randn(7, 2), torch.randn(7, 1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=3)
    model = torch.nn.Linear(2, 1)
    callback = torch_callback(
        model, adsValData=loader, lossFunction="MSELoss", lossFunctionArgs={"reduction": reduction}
    )
    with torch.no_grad():
        expected = float(torch.nn.functional.mse_loss(model(inputs), targets))
    assert callback.evaluate() == (pytest.approx(expected, rel=1e-5), None)


def test_pytorch_trains_in_a_swarm(serve):
    from swarmlearning.pyt import SwarmCallback

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 2))
    inputs, targets = torch.randn(10, 4), torch.randint(0, 2, (10,))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), 4)
    swarm = Swarm(interval=2)
    served = serve(swarm)
    callback = SwarmCallback(
        2,
        1,
        model=model,
        adsValData=loader,
        lossFunction="CrossEntropyLoss",
        lossFunctionArgs={"reduction": "sum"},
        metricFunction="Accuracy",
        metricFunctionArgs={"task": "multiclass", "num_classes": 2},
        logger=LOGGER,
        totalEpochs=1,
    )
    before = model[0].weight.detach().clone()
    model[1].eval()  # kept so on purpose by this user
    generator = torch.random.get_rng_state()
    callback.on_train_begin()
    assert torch.equal(model[0].weight, before + 1)
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert torch.equal(torch.random.get_rng_state(), generator)
    report = swarm_report(swarm)
    with torch.no_grad():
        outputs = model(inputs)
        assert report.loss == pytest.approx(float(torch.nn.functional.cross_entropy(outputs, targets)), rel=1e-5)
        assert report.metric == pytest.approx(float((outputs.argmax(1) == targets).float().mean()))
    for batch in range(4):
        callback.on_batch_end(batch)
    callback.on_epoch_end(0)
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert swarm.kinds().count("Sync") == 3
    torch.testing.assert_close(model[0].weight, before + 4)


def swarm_report(swarm: Swarm) -> wire.Report:
    """A report gets no answer, so the SL may read it a moment later than the sync before it."""
    arrived = threading.Event()
    while not (found := [message for message in swarm.heard if isinstance(message, wire.Report)]):
        assert not arrived.wait(0.01)
    return found[-1]


def test_scripts_of_the_original_product_find_their_import():
    from swarm_callback import torch
    from swarmlearning import pyt

    assert pyt.SwarmCallback is torch.SwarmCallback
