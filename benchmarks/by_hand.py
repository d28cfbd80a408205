"""The methods as one would write them in plain PyTorch, in one module: what the step is measured against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyro_disent.models.networks import networks

Z = 10  # numbers of z; y has the rest of 11


class ByHand(nn.Module):
    """One module, one head, the loss of one method on images ``(views, images, channels, height, width)``."""

    def __init__(self, network: str, image_shape: tuple[int, int, int], method: str) -> None:
        super().__init__()
        self.encoder, self.decoder = networks(network)(image_shape, Z + 1)
        features = self.encoder(torch.zeros(1, *image_shape)).shape[1]
        self.head = nn.Linear(features, 2 * (Z + 1))
        self.method = method
        if method == "predictor":
            self.opponent = nn.Sequential(nn.Linear(Z, 128), nn.ReLU(), nn.Linear(128, 2))

    def forward(self, images: Tensor, factor: Tensor) -> Tensor:
        views, count = images.shape[:2]
        flat = images.flatten(0, 1)
        loc, log_variance = self.head(self.encoder(flat)).chunk(2, -1)
        code = loc + torch.exp(0.5 * log_variance) * torch.randn_like(loc)
        kl = -0.5 * (1 + log_variance - loc.square() - log_variance.exp()).sum()
        seen = code
        if self.method == "cycle":
            z = code[:, :Z].unflatten(0, (views, count)).flip(0).flatten(0, 1)
            seen = torch.cat([z, code[:, Z:]], -1)
        reconstruction = F.binary_cross_entropy_with_logits(self.decoder(seen), flat, reduction="sum")
        loss = (reconstruction + kl) / len(flat)
        if self.method == "similarity":
            mean, spread = loc[:, :Z].unflatten(0, (views, count)), log_variance[:, :Z].unflatten(0, (views, count))
            ratio, distance = (spread - spread.flip(0)).exp(), (mean - mean.flip(0)).square() / spread.flip(0).exp()
            loss = loss + 0.6 * 0.5 * (ratio + distance - 1 - spread + spread.flip(0)).sum() / len(flat)
        if self.method == "predictor":
            labels = (factor.flatten() >= 0).long()
            weights = [parameter.detach() for parameter in self.opponent.parameters()]
            frozen = F.linear(F.relu(F.linear(code[:, :Z], weights[0], weights[1])), weights[2], weights[3])
            log_p = frozen.log_softmax(-1)
            loss = loss + 20 * (log_p.exp() * log_p).sum(-1).mean()
            loss = loss + F.cross_entropy(self.opponent(code[:, :Z].detach()), labels)
        return loss
