"""The next CT and whether it shows hemorrhage, each task helping the other (system A).

After Jiang et al., arXiv 2408.00940: a shared encoder that attends to what is dense, two streams that attend to each
other, a generator and a classifier. The paper gives the idea; sizes and depths are ours. `PAPER` reads the brain alone.
`COMPACT` is built like the segmenter and reads the head through its windows, so that it can begin from a network that
knows blood: one that began from nothing told nobody who bleeds after 1,100 steps. Its classifier reads the mean of what
the encoder says of all places as well, which is what tells patients apart (decision 161).
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.blocks import ALL_AXES, IN_PLANE, Conv, Size, Stage, decoded, decoder_of, encoded, encoder_of, fast, say
from models.familiarity import Familiarity
from models.segmenter import WINDOWS_HU, SegmenterConfig

SEEN_HU = 100.0  # of the brain, 0 to this as 0 to 1
DENSE, _STEEPNESS = 0.5, 20.0  # as blood, of 0-100 HU as 0-1: from 50 HU on, over about 5 HU
_HEMORRHAGE_CLASSES = 2
_REMEMBERED = 1000  # patients
_ADDED_VARIANCE = 1e-6  # for features that are the same of everybody
_DROPPED = 0.5  # of the pooled features, in training


class Prediction(NamedTuple):
    """What is said of the next CT."""

    ct_bcdhw: Tensor  # of the brain, as `brain_alone`
    logits_bk: Tensor  # no hemorrhage, hemorrhage
    attention_bdhw: Tensor  # of the class token to each token's place, sums to less than 1
    features_bf: Tensor  # mean of the tokens that both streams begin from


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowupConfig:
    """What is built. The switches but `pools` are the ablations of the paper."""

    shape: Size
    stages: tuple[Stage, ...]
    windows: tuple[tuple[float, float], ...] = ()  # HU, through which it reads the head; none: it reads the brain alone
    heads: int
    density_blocks: int
    interactive_blocks: int
    dropout: float = 0.1
    attends_to_density: bool = True
    interacts: bool = True
    pools: bool = False  # its classifier reads the mean of what the encoder says, beside the class token; ours


def _stages(*widths: int) -> tuple[Stage, ...]:
    strides: tuple[Size, ...] = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    kernels = (IN_PLANE, IN_PLANE, ALL_AXES, ALL_AXES, ALL_AXES)
    return tuple(Stage(width=w, stride=s, kernel=k, units=1) for w, s, k in zip(widths, strides, kernels, strict=True))


PAPER = FollowupConfig(  # 5 x 1 x 1 mm
    shape=(32, 192, 160), stages=_stages(32, 64, 128, 256, 256), heads=8, density_blocks=4, interactive_blocks=3
)
COMPACT = replace(  # 5 x 2 x 2 mm
    PAPER,
    shape=(32, 112, 96),
    stages=SegmenterConfig().stages,
    windows=WINDOWS_HU,
    heads=4,
    density_blocks=2,
    interactive_blocks=2,
    pools=True,
)


def brain_alone(hu_bcdhw: Tensor, brain_bcdhw: Tensor) -> Tensor:
    """0 to 100 HU as 0 to 1, and nothing outside the brain."""
    return (hu_bcdhw.clamp(0, SEEN_HU) / SEEN_HU).where(brain_bcdhw, 0.0)


class Followup(nn.Module):
    """A head to its brain in the next CT; see the module's docstring."""

    def __init__(self, config: FollowupConfig = COMPACT) -> None:
        super().__init__()
        first, width = config.stages[0], config.stages[-1].width
        self.token_voxels = tuple(math.prod(stage.stride[axis] for stage in config.stages) for axis in range(3))
        self.tokens = tuple(size // step for size, step in zip(config.shape, self.token_voxels, strict=True))
        self.stem = Conv(max(1, len(config.windows)), first.width, first.kernel)
        self.encoder, self.decoder = encoder_of(config.stages), decoder_of(config.stages)
        self.place = nn.Parameter(torch.randn(1, math.prod(self.tokens), width) * 0.02)
        self.shared = nn.ModuleList(
            Block(width, config.heads, config.dropout, density=config.attends_to_density)
            for _ in range(config.density_blocks)
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.projected = nn.Linear(width, width)
        self.streams = nn.ModuleList(
            Interaction(width, config.heads, config.dropout, interacts=config.interacts)
            for _ in range(config.interactive_blocks)
        )
        self.change = nn.Conv3d(first.width, 1, 1)
        say(self.change, torch.tensor(0.0))  # as it was
        self.classifier = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, _HEMORRHAGE_CLASSES)
        )
        self.pooled = _pooled(width) if config.pools else None
        self.familiarity = Familiarity(width)
        self.config = config

    @property
    def last_shared(self) -> nn.Module:
        """The last layer that both tasks use: GradNorm measures their gradients there."""
        return self.shared[-1]

    def forward(self, hu_bcdhw: Tensor, brain_bcdhw: Tensor) -> Prediction:
        """From HU and where the brain is (boolean), both (batch, 1, *shape)."""
        x_bcdhw = brain_alone(hu_bcdhw, brain_bcdhw)
        with fast(x_bcdhw.device):
            *skips, deepest = encoded(self.stem, self.encoder, self._read(hu_bcdhw, x_bcdhw))
            encoded_bf = deepest.float().mean(dim=(2, 3, 4))
            tokens = deepest.flatten(2).transpose(1, 2) + self.place
            density_bt = self._density(x_bcdhw)
            for block in self.shared:
                tokens, _ = block(tokens, density_bt)
            features_bf = tokens.mean(dim=1)
            g, projected = tokens, self.projected(tokens)
            c = torch.cat([self.class_token + projected.mean(dim=1, keepdim=True), projected], dim=1)
            weights = c.new_zeros(())
            for stream in self.streams:
                g, c, weights = stream(g, c)
            places = g.transpose(1, 2).reshape(len(g), -1, *self.tokens)
            deepest = places.contiguous(memory_format=torch.channels_last_3d)
            change = self.change(decoded(self.decoder, deepest, skips)[-1])
        attention_bt = weights[:, :, 0, 1:].float().mean(dim=1)
        logits_bk = self.classifier(c[:, 0].float())  # patients differ by less than bfloat16 tells apart
        if self.pooled is not None:
            logits_bk = logits_bk + self.pooled(encoded_bf)
        return Prediction(
            ct_bcdhw=(x_bcdhw + change.float()).clamp(0, 1).where(brain_bcdhw, 0.0),
            logits_bk=logits_bk,
            attention_bdhw=attention_bt.reshape(-1, *self.tokens),
            features_bf=features_bf.float(),
        )

    def _read(self, hu_bcdhw: Tensor, x_bcdhw: Tensor) -> Tensor:
        windows = self.config.windows
        if not windows:
            return x_bcdhw
        return torch.cat([((hu_bcdhw - low) / (high - low)).clamp(0, 1) for low, high in windows], dim=1)

    def _density(self, x_bcdhw: Tensor) -> Tensor:
        """(batch, token): 0-1, how much of each token's place is as dense as blood."""
        dense = torch.sigmoid((x_bcdhw - DENSE) * _STEEPNESS)
        return functional.avg_pool3d(dense, self.token_voxels).flatten(1)


def _pooled(width: int) -> nn.Sequential:
    answer = nn.Linear(width, _HEMORRHAGE_CLASSES)
    say(answer, torch.tensor(0.0))
    return nn.Sequential(Standardized(width), nn.Dropout(_DROPPED), answer)


class Standardized(nn.Module):
    """Features as they differ from those of the patients shown so far, in deviations.

    What a network says of whole heads is nearly the same of all. A layer that reads it as it is learns slowly what is
    different: 1,000 steps of two, on 270 heads, left the loss at 0.70; standardized it fell to 0.45. Where several
    processes train, each remembers its own patients, and the checkpoint has those of the first.
    """

    shown: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("shown", torch.tensor(0.0))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, features_bf: Tensor) -> Tensor:
        """(batch, feature); a training remembers them first."""
        if self.training:
            for features in features_bf.detach():
                if features.isfinite().all():  # a training passes over a step that is no numbers, and goes on
                    self._remember(features)
        return (features_bf - self.mean) * (self.variance + _ADDED_VARIANCE).rsqrt()

    def renew(self) -> None:
        """Another training begins: its patients are others."""
        self.shown.zero_()

    def _remember(self, features: Tensor) -> None:
        self.shown += 1
        share = 1 / self.shown.clamp(max=_REMEMBERED)
        away = features - self.mean
        self.mean += share * away
        self.variance.copy_((1 - share) * (self.variance + share * away.square()))


class Attention(nn.Module):
    """Multi-head attention that also says where it looked; dense places may weigh more."""

    def __init__(self, width: int, heads: int, dropout: float, *, density: bool = False) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q, self.kv, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        # softplus of it is the weight of density in each head, at first 1
        self.density = nn.Parameter(torch.full((heads,), math.log(math.e - 1))) if density else None

    def forward(self, asking: Tensor, asked: Tensor, density_bt: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(batch, asking, width) and the weights (batch, head, asking, asked)."""
        q = self.q(asking).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(asked).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
        if self.density is not None and density_bt is not None:
            scores = scores + functional.softplus(self.density).view(1, -1, 1, 1) * density_bt[:, None, None]
        weights = scores.softmax(dim=-1)
        kept = functional.dropout(weights, self.dropout, self.training).to(v.dtype)
        return self.out((kept @ v).transpose(1, 2).flatten(2)), weights


class Block(nn.Module):
    """Self-attention and a perceptron, each after a norm and beside its input."""

    def __init__(self, width: int, heads: int, dropout: float, *, density: bool = False) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), Attention(width, heads, dropout, density=density)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, tokens: Tensor, density_bt: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens (batch, token, width) and attention weights (batch, head, token, token)."""
        normed = self.norm(tokens)
        attended, weights = self.attention(normed, normed, density_bt)
        tokens = tokens + attended
        return tokens + self.perceptron(tokens), weights


class Interaction(nn.Module):
    """Two streams look at each other as they were before, the same way in both directions, then each at itself."""

    def __init__(self, width: int, heads: int, dropout: float, *, interacts: bool = True) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.across = nn.ModuleList(Attention(width, heads, dropout) for _ in range(2))
        self.own = nn.ModuleList(Block(width, heads, dropout) for _ in range(2))
        self.interacts = interacts

    def forward(self, generation: Tensor, classification: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both streams (batch, token, width), and how the second attended to itself (batch, head, token, token)."""
        g, c = generation, classification
        if self.interacts:
            normed_g, normed_c = self.norms[0](g), self.norms[1](c)
            g, c = g + self.across[0](normed_g, normed_c)[0], c + self.across[1](normed_c, normed_g)[0]
        g, _ = self.own[0](g)
        c, weights = self.own[1](c)
        return g, c, weights
