"""Variational autoencoder for images (Kingma & Welling 2014).

Shapes: B batch, C channels, H height, W width, Z latent, S samples of the latent an image.

The prior is N(0, I) and the posterior N(μ(x), diag σ²(x)). A pixel in [0, 1] is Bernoulli, where grey counts as a
probability, or continuous Bernoulli (Loaiza-Ganem & Cunningham 2019): the same term with the normaliser that makes
it a density on [0, 1]. Grey images need that one: under the plain Bernoulli the entropy of grey drowns the KL, and
samples blur. The loss is −ELBO in nats an image, reconstruction + KL; of a density it may be negative.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpkit.core.batch import Batch
from nlpkit.core.density import LogProb
from nlpkit.errors import DataError, UsageError


@dataclass(frozen=True)
class Config:
    """The images and the two networks (``depth`` hidden layers of width ``hidden`` each)."""

    in_channels: int = 1
    size: int = 28  # height and width of an image, pixels
    latent: int = 16
    hidden: int = 512
    depth: int = 2
    likelihood: Literal["continuous", "bernoulli"] = "continuous"


BOUND = 30.0  # of the continuous logits: the density of exactly black or white pixels would grow without end


def _mlp(inside: int, hidden: int, depth: int, outside: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inside, hidden), nn.SiLU()]
        inside = hidden
    return nn.Sequential(*layers, nn.Linear(inside, outside))


class Model(nn.Module):
    """Encoder and decoder networks with a Gaussian latent between them.

    >>> model = Model(Config(size=8, latent=2, hidden=16))
    >>> model.sample(3, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([3, 1, 8, 8])
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        if min(config.in_channels, config.size, config.latent, config.hidden, config.depth) < 1:
            raise UsageError("a vae needs in_channels, size, latent, hidden and depth of 1 or more")
        self.config = config
        self.shape = (config.in_channels, config.size, config.size)
        pixels = math.prod(self.shape)
        self.encoder = _mlp(pixels, config.hidden, config.depth, 2 * config.latent)
        self.decoder = _mlp(config.latent, config.hidden, config.depth, pixels)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (B, C, H, W) in [0, 1] → mean and log-variance of the latent, (B, Z) each."""
        if tuple(pixels.shape[1:]) != self.shape:
            raise DataError(f"images of shape {tuple(pixels.shape[1:])}, the model reads {self.shape}")
        mean, log_variance = self.encoder(2 * pixels.flatten(1) - 1).chunk(2, -1)
        return mean, log_variance.clamp(-20.0, 20.0)

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (…, Z) → natural parameters (logits) of the pixels (…, C, H, W)."""
        logits: Tensor = self.decoder(latent).unflatten(-1, self.shape)
        return BOUND * torch.tanh(logits / BOUND) if self.config.likelihood == "continuous" else logits

    def _nats(self, logits: Tensor, pixels: Tensor) -> Tensor:
        """−log p(pixels | logits) of whole images: sums over (C, H, W)."""
        normaliser = F.softplus if self.config.likelihood == "bernoulli" else log_normaliser
        each = normaliser(logits) - logits * pixels
        return each.flatten(-3).sum(-1)

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """−ELBO in nats an image, by one reparametrised sample; its two parts are logged."""
        pixels = batch["pixels"]
        mean, log_variance = self(pixels)
        z = mean + (log_variance / 2).exp() * _normal(mean.shape, mean, generator)
        each = self._nats(self.decode(z), pixels)  # (B,)
        kl = 0.5 * (log_variance.exp() + mean**2 - 1.0 - log_variance).sum(1)  # (B,)
        loss = (each + kl).mean()
        count = torch.tensor(float(len(pixels)), device=pixels.device)
        return {
            "loss": loss,
            "count": count,
            "reconstruction": each.detach().mean(),
            "kl": kl.detach().mean(),
        }

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """``n`` images (n, C, H, W): the decoder's means at latents drawn from the prior (σ = ``temperature``)."""
        like = next(self.parameters())
        z = temperature * _normal((n, self.config.latent), like, generator)
        logits = self.decode(z)
        return torch.sigmoid(logits) if self.config.likelihood == "bernoulli" else continuous_mean(logits)

    @torch.no_grad()
    def log_prob(self, x: Tensor, *, samples: int = 64, generator: torch.Generator | None = None) -> LogProb:
        """A stochastic lower bound of log p(x) in nats, (B,): importance sampling (Burda et al. 2016, §3).

        It rises to log p(x) with the number of ``samples`` (in expectation).
        """
        mean, log_variance = self(x)
        noise = _normal((samples, *mean.shape), mean, generator)  # (S, B, Z)
        z = mean + (log_variance / 2).exp() * noise
        log_posterior = -0.5 * (noise**2 + log_variance + math.log(2 * math.pi)).sum(-1)
        log_prior = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
        weights = log_prior - log_posterior - self._nats(self.decode(z), x)  # (S, B)
        return LogProb(torch.logsumexp(weights, 0) - math.log(samples), "lower bound")


def log_normaliser(logits: Tensor) -> Tensor:
    """log ∫₀¹ e^{l·x} dx = log((e^l − 1) / l), even near l = 0, where it is l/2."""
    size = logits.abs().clamp_min(1e-3)
    return torch.where(
        logits.abs() < 1e-3, logits / 2, logits.clamp_min(0.0) + torch.log(-torch.expm1(-size) / size)
    )


def continuous_mean(logits: Tensor) -> Tensor:
    """The mean of a continuous Bernoulli, the derivative of its log-normaliser: 1/(1 − e^{−l}) − 1/l."""
    safe = torch.where(logits.abs() < 1e-2, 1.0, logits)
    return torch.where(logits.abs() < 1e-2, 0.5 + logits / 12, -1.0 / torch.expm1(-safe) - 1.0 / safe)


def _normal(shape: tuple[int, ...] | torch.Size, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers on the device of ``like``, drawn where the generator lives."""
    device = generator.device if generator is not None else like.device
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=device).to(like.device)
