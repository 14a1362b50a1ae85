"""The VAE's terms against closed forms, its bound, and its samples."""

import pytest
import torch

from nlpkit.models import vae

D64 = torch.float64


def model(**values):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return vae.Model(vae.Config(**({"size": 3, "latent": 2, "hidden": 16} | values))).double()


def test_the_continuous_bernoulli_is_a_density_with_that_mean():
    x = (torch.arange(200_000, dtype=D64) + 0.5) / 200_000
    for logit in (-25.0, -3.0, -0.5, -1e-3, 0.0, 1e-4, 0.02, 2.0, 20.0):
        density = (x * logit - vae.log_normaliser(torch.tensor(logit, dtype=D64))).exp()
        assert abs(density.mean() - 1) < 1e-6
        assert abs((density * x).mean() - vae.continuous_mean(torch.tensor(logit, dtype=D64))) < 1e-5


def test_kl_is_that_of_two_gaussians():
    m, pixels = model(), torch.rand(4, 1, 3, 3, dtype=D64)
    mean, log_variance = m(pixels)
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    exact = torch.distributions.kl_divergence(q, torch.distributions.Normal(torch.zeros(2, dtype=D64), 1.0))
    assert abs(m.loss({"pixels": pixels})["kl"] - exact.sum(1).mean()) < 1e-12


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous"])
def test_the_bound_lies_between_the_elbo_and_the_evidence(likelihood):
    m, x = model(likelihood=likelihood), torch.rand(2, 1, 3, 3, dtype=D64)
    g = torch.Generator().manual_seed(0)
    axis = torch.linspace(-6, 6, 301, dtype=D64)  # log p(x) by quadrature over the two latents
    z = torch.cartesian_prod(axis, axis)
    prior = -0.5 * (z**2).sum(1) - torch.log(torch.tensor(2 * torch.pi, dtype=D64))
    with torch.no_grad():
        likelihoods = -m._nats(m.decode(z)[:, None], x)  # (grid, B)
    evidence = torch.logsumexp(likelihoods + prior[:, None], 0) + 2 * (axis[1] - axis[0]).log()
    found = m.log_prob(x, samples=4000, generator=g)
    assert found.kind == "lower bound" and (found.value - evidence).abs().max() < 0.05
    one = torch.stack([m.log_prob(x, samples=1, generator=g).value for _ in range(2000)]).mean(0)
    assert (one < evidence + 0.02).all()
    elbo = -torch.stack([m.loss({"pixels": x}, generator=g)["loss"].detach() for _ in range(2000)]).mean()
    assert abs(elbo - one.mean()) < 0.05


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous"])
def test_samples_are_images_and_follow_the_generator(likelihood):
    m = model(likelihood=likelihood)
    a, b, c = (m.sample(5, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert a.shape == (5, 1, 3, 3) and a.min() >= 0 and a.max() <= 1
    assert torch.equal(a, b) and not torch.equal(a, c)
