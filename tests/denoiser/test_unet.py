"""The network: shapes, homogeneity, and what its output may depend on."""

import pytest
import torch

from sn2nlib.denoiser import UNet25D
from sn2nlib.errors import Sn2nError


def network(**options: int | bool) -> UNet25D:
    """A network with random weights in its last layer too, as if it had learnt something."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(0)
        net = UNet25D(**{"width": 6, "depth": 2, **options})  # type: ignore[arg-type]
        torch.nn.init.kaiming_normal_(net.last.weight)
        return net


def windows(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("unshuffle", [1, 2])
@pytest.mark.parametrize("size", [(16, 24), (17, 29), (3, 5), (1, 1)])
@torch.no_grad()
def test_any_size_goes_in_and_comes_out(size: tuple[int, int], unshuffle: int) -> None:
    output = network(unshuffle=unshuffle)(windows(2, 7, *size))
    assert output.shape == (2, 1, *size) and bool(output.isfinite().all())


@torch.no_grad()
def test_extending_the_edge_does_not_reach_the_far_side() -> None:
    net, whole = network(depth=1), windows(1, 7, 40, 40)
    part = net(whole[..., :23, :31])
    torch.testing.assert_close(part[..., :10, :18], net(whole)[..., :10, :18])


@pytest.mark.parametrize("unshuffle", [1, 2])
@torch.no_grad()
def test_without_bias_the_network_is_homogeneous(unshuffle: int) -> None:
    window = windows(1, 7, 20, 22)
    net = network(unshuffle=unshuffle)
    torch.testing.assert_close(net(7.5 * window), 7.5 * net(window))
    biased = network(unshuffle=unshuffle, bias=True)
    biased.last.bias.fill_(0.1)  # type: ignore[union-attr]
    assert not torch.allclose(biased(7.5 * window), 7.5 * biased(window), rtol=1e-2)


@torch.no_grad()
def test_it_starts_as_the_identity_on_the_centre_partition() -> None:
    window = windows(1, 7, 16, 16)
    assert torch.equal(UNet25D(width=6)(window), window[:, 3:4])


def test_the_output_depends_on_all_seven_partitions() -> None:
    window = windows(1, 7, 16, 16).requires_grad_()
    network()(window).sum().backward()
    assert window.grad is not None
    assert bool((window.grad.abs().amax(dim=(0, 2, 3)) > 0).all())


@torch.no_grad()
def test_signal_keeps_its_size_through_the_untrained_network() -> None:
    net = network(width=32, depth=3)
    window = windows(1, 7, 64, 64)
    correction = net(window) - window[:, 3:4]
    assert 0.1 < correction.square().mean().sqrt() / window.square().mean().sqrt() < 10


def test_the_number_of_weights_is_that_of_the_drawing() -> None:
    # per level two 3×3 convolutions; a 2×2 transposed convolution and two more 3×3 on the way up; one 1×1
    width, expected = 32, 9 * 7 * 32 + 9 * 32 * 32
    for level in range(3):
        low, high = width * 2**level, width * 2 ** (level + 1)
        expected += 9 * low * high + 9 * high * high + 4 * high * low + 9 * high * low + 9 * low * low
    assert sum(weight.numel() for weight in UNet25D().parameters()) == expected + 32 == 1_925_120


@pytest.mark.parametrize("wrong", [{"slices": 6}, {"width": 0}, {"depth": -1}, {"unshuffle": 0}])
def test_impossible_networks_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(Sn2nError, match="no such network"):
        network(**wrong)
