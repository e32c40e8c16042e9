"""Each precision computes in its format, costs at most one stack frame, and steps exactly when it should."""

import inspect

import pytest
import torch
from torch import nn

from lightkit.devices.precision import Precision, choose_precision
from lightkit.errors import ConfigError

CPU = torch.device("cpu")
ALL = ["32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true"]
DTYPES = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
TRUE = {"16-true": torch.float16, "bf16-true": torch.bfloat16, "64-true": torch.float64}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *((name, name) for name in ALL),
        (None, "32-true"), (32, "32-true"), ("32", "32-true"), (16, "16-mixed"), ("16", "16-mixed"),
        ("bf16", "bf16-mixed"), (64, "64-true"), ("64", "64-true"),
    ],
)  # fmt: skip
def test_lightnings_names_and_short_names_are_understood(value, name):
    assert choose_precision(value, CPU).name == name


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("fp8", ""),
        ("bf16-mixd", "; did you mean 'bf16-mixed'?"),
        ("16-MIXED", "; did you mean '16-mixed'?"),
        ("b16", "; did you mean 'bf16'?"),
        (8, ""),
        (32.0, ""),
        (True, ""),
    ],
)
def test_an_unknown_precision_lists_the_known_ones(value, hint):
    with pytest.raises(ConfigError) as caught:
        choose_precision(value, CPU)
    assert str(caught.value) == (
        f"Trainer(precision={value!r}): expected one of '32-true', '16-mixed', 'bf16-mixed', '16-true', "
        f"'bf16-true', '64-true'{hint}"
    )


def test_a_precision_of_the_users_own_is_taken_as_it_is():
    own = Precision(CPU)
    assert choose_precision(own, CPU) is own


def test_float64_on_an_apple_gpu_is_refused():
    with pytest.raises(ConfigError) as caught:
        choose_precision(64, torch.device("mps"))
    assert str(caught.value) == (
        "Trainer(precision=64): an Apple GPU (mps) has no float64; use accelerator='cpu'"
    )


def test_full_precision_is_not_in_the_way():
    precision = choose_precision(None, CPU)

    def step():
        return len(inspect.stack(0))

    assert precision.wrap(step) is step
    assert (precision.converts_batch, precision.scaler is not None, precision.supports_closure) == (
        False,
        False,
        True,
    )


@pytest.mark.parametrize("name", ALL[1:])
def test_a_wrapped_step_gets_its_arguments_and_is_one_frame_deeper(name):
    def step(*args, **kwargs):
        return args, kwargs, len(inspect.stack(0))

    wrapped = choose_precision(name, CPU).wrap(step)
    args, kwargs, depth = wrapped(1, 2, a=3)
    assert (args, kwargs) == ((1, 2), {"a": 3})
    assert depth == step()[2] + 1


@pytest.mark.parametrize("name", DTYPES)
def test_mixed_precision_computes_in_the_small_format_and_keeps_the_weights(name):
    precision, layer = choose_precision(name, CPU), nn.Linear(4, 4)
    precision.convert_module(layer)
    output = precision.wrap(layer)(torch.ones(1, 4))
    assert (output.dtype, layer.weight.dtype, precision.converts_batch) == (
        DTYPES[name],
        torch.float32,
        False,
    )
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("name", TRUE)
def test_true_precision_converts_module_batch_and_what_the_step_creates(name):
    precision, layer = choose_precision(name, CPU), nn.BatchNorm1d(4)
    precision.convert_module(layer)
    assert precision.converts_batch
    batch = precision.convert_batch([torch.ones(2, 4), {"y": torch.ones(2, dtype=torch.long), "n": "a"}])
    assert (batch[0].dtype, batch[1]["y"].dtype, batch[1]["n"]) == (TRUE[name], torch.long, "a")
    assert {tensor.dtype for tensor in layer.state_dict().values()} == {TRUE[name], torch.long}
    before = torch.get_default_dtype()
    assert precision.wrap(torch.zeros)(2).dtype == TRUE[name]
    assert torch.get_default_dtype() == before
    precision.backward(precision.wrap(lambda: layer(batch[0]).sum())())
    assert layer.weight.grad.dtype == TRUE[name]


@pytest.mark.parametrize("name", TRUE)
def test_the_default_dtype_comes_back_after_an_error(name):
    with pytest.raises(ZeroDivisionError):
        choose_precision(name, CPU).wrap(lambda: 1 / 0)()
    assert torch.get_default_dtype() == torch.float32


def gradients(name, micro_batches):
    """Accumulate the gradients of a linear layer over micro-batches."""
    torch.manual_seed(0)
    precision, layer = choose_precision(name, CPU), nn.Linear(4, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)

    def step(batch):
        return layer(batch).float().sum() / 64  # small enough for float16 times the first scale, 65536

    wrapped = precision.wrap(step)
    for batch in micro_batches:
        precision.backward(wrapped(batch))
    precision.unscale(optimizer)
    return layer.weight.grad


@pytest.mark.parametrize("name", DTYPES)
def test_accumulated_gradients_are_those_of_full_precision(name):
    batches = [torch.ones(2, 4) * size for size in (1, 2, 3)]  # exact in 8 bits
    assert torch.equal(gradients("32-true", batches), torch.full((2, 4), 12 / 64))
    assert torch.allclose(gradients(name, batches), torch.full((2, 4), 12 / 64), rtol=2**-7)


@pytest.mark.parametrize("name", DTYPES)
def test_weights_changed_within_a_step_are_used_at_once(name):
    """autocast's cache of small copies would go on with the weights from before the change."""
    precision, layer = choose_precision(name, CPU), nn.Linear(1, 1, bias=False)

    def step():
        with torch.no_grad():
            layer.weight.fill_(1.0)
        first = layer(torch.ones(1, 1)).item()
        with torch.no_grad():
            layer.weight.fill_(2.0)
        return first, layer(torch.ones(1, 1)).item()

    assert precision.wrap(step)() == (1.0, 2.0)


def test_the_loss_scale_saves_small_gradients_and_is_gone_before_clipping():
    precision = choose_precision("16-mixed", CPU)
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    loss = (weight.half() * 1e-4).float().sum() * 1e-4  # in float16 its gradient, 1e-8, would be 0
    precision.backward(loss)
    assert weight.grad.item() == pytest.approx(65536e-8, rel=1e-2)
    precision.unscale(optimizer)
    assert weight.grad.item() == pytest.approx(1e-8, rel=1e-2)
    precision.step(optimizer)
    assert precision.scaler is not None and not precision.supports_closure


def test_a_user_s_own_backward_scales_alike():
    weight = nn.Parameter(torch.ones(1))
    assert choose_precision("16-mixed", CPU).scale(weight * 2).item() == 2 * 65536
    loss = weight * 2
    assert choose_precision("bf16-mixed", CPU).scale(loss) is loss


def test_a_step_that_overflowed_is_left_out_and_the_scale_halved_and_resumed():
    precision = choose_precision("16-mixed", CPU)
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    precision.backward(weight.sum() * float("inf"))
    precision.step(optimizer)
    assert weight.item() == 1.0
    assert precision.state_dict()["scale"] == 32768
    resumed = choose_precision("16-mixed", CPU)
    resumed.load_state_dict(precision.state_dict())
    assert resumed.state_dict() == precision.state_dict()
    optimizer.zero_grad()
    resumed.backward(weight.sum())
    resumed.step(optimizer)
    assert weight.item() == 0.0


@pytest.mark.parametrize("name", ALL)
def test_a_state_of_another_precision_is_left_alone(name):
    precision = choose_precision(name, CPU)
    precision.load_state_dict({})
    if precision.scaler is None:
        precision.load_state_dict(choose_precision("16-mixed", CPU).state_dict())
        assert precision.state_dict() == {}


@pytest.mark.parametrize("name", [name for name in ALL if name != "16-mixed"])
def test_a_step_is_the_optimizers_own(name):
    precision, weight = choose_precision(name, CPU), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    precision.backward(weight.sum())
    precision.unscale(optimizer)
    precision.step(optimizer)
    assert weight.item() == 0.5
    assert precision.supports_closure and precision.scaler is None


@pytest.mark.gpu
@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_mixed_precision_on_the_gpu(name):
    device = torch.device("cuda", 0)
    precision, layer = choose_precision(name, device), nn.Linear(4, 4, device=device)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    before = layer.weight.detach().clone()
    output = precision.wrap(layer)(torch.ones(1, 4, device=device))
    assert output.dtype == DTYPES[name]
    precision.backward(output.float().mean())
    precision.unscale(optimizer)
    precision.step(optimizer)
    assert not torch.equal(layer.weight, before)
