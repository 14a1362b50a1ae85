"""The stack against a naive softmax in float64, and its invariants."""

import itertools
import math

import pytest
import torch

from nlpkit.core.cache import Cache
from nlpkit.core.families import FAMILIES, initialize, text_config
from nlpkit.core.fused import rotate
from nlpkit.core.positions import positions_in, rotary_table, sinusoidal
from nlpkit.core.text_encoder import TextEncoder
from nlpkit.core.transformer import AttentionConfig, MlpConfig, NormConfig, Transformer, TransformerConfig
from nlpkit.errors import DataError

D64 = torch.float64
SEGMENTS = {
    "none": None,
    "whole": torch.ones(2, 9, dtype=torch.long),
    "padded": torch.tensor([[1] * 9, [1] * 5 + [0] * 4]),
    "packed": torch.tensor([[1, 1, 1, 2, 2, 2, 2, 3, 3], [4, 4, 4, 4, 1, 1, 1, 0, 0]]),
    "left": torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 1], [1] * 9]),
}


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def randomise(module):
    for p in module.parameters():
        torch.nn.init.normal_(p, 0.0, 0.5)
    return module.double().eval()


def naive(stack, x, segments, kv_heads):
    """Attention of a one-layer stack written out: token by token, from the definition."""
    a, block = stack.config.attention, stack.blocks[0]
    h = block.attention_norm(x)
    batch, length, _ = x.shape
    seg = torch.ones(batch, length, dtype=torch.long) if segments is None else segments
    d = stack.head_dim
    q = block.attention.q(h).view(batch, length, a.heads, d)
    k = block.attention.k(h).view(batch, length, kv_heads, d)
    v = block.attention.v(h).view(batch, length, kv_heads, d)
    if a.qk_norm:
        gains, eps = (block.attention.q_norm.weight, block.attention.k_norm.weight), stack.config.norm.eps
        q, k = (x / (x.square().mean(-1, True) + eps).sqrt() * g for x, g in zip((q, k), gains, strict=True))
    out = torch.zeros(batch, length, a.heads, d, dtype=x.dtype)
    for b, t, n in itertools.product(range(batch), range(length), range(a.heads)):
        seen = [
            s
            for s in range(length)
            if seg[b, s] == seg[b, t]
            and (not a.causal or s <= t)
            and (a.window is None or abs(s - t) <= a.window)
        ]
        kv = n // (a.heads // kv_heads)

        def turn(vec, position, b=b):
            if a.rope is None:
                return vec
            first = min(s for s in range(length) if seg[b, s] == seg[b, position])
            angle = (position - first) / a.rope ** (torch.arange(0, d, 2).to(D64) / d)
            one, two = vec[: d // 2], vec[d // 2 :]
            return torch.cat((one * angle.cos() - two * angle.sin(), two * angle.cos() + one * angle.sin()))

        scores = torch.stack([turn(q[b, t, n], t) @ turn(k[b, s, kv], s) for s in seen]) / math.sqrt(d)
        out[b, t, n] = torch.softmax(scores, 0) @ torch.stack([v[b, s, kv] for s in seen])
    x = x + block.attention.out(out.flatten(2))
    return stack.norm(x + block.mlp(block.mlp_norm(x)))


@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("window", "kv_heads", "rope"), [(None, 4, None), (2, 2, None), (3, 1, 100.0)])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_attention_equals_the_naive_softmax(segments, causal, window, kv_heads, rope, qk_norm):
    attention = AttentionConfig(4, kv_heads, causal=causal, window=window, rope=rope, qk_norm=qk_norm)
    config = TransformerConfig(16, 1, attention, NormConfig(), MlpConfig(8))
    stack = randomise(Transformer(config))
    x, seg = torch.randn(2, 9, 16, dtype=D64), SEGMENTS[segments]
    ours, plain = stack(x, seg), naive(stack, x, seg, kv_heads)
    real = torch.ones(2, 9, dtype=torch.bool) if seg is None else seg != 0
    assert torch.isfinite(ours).all()
    # the angles are float32 as in published checkpoints, hence the looser bound with rotary positions
    assert (ours - plain)[real].abs().max() < (1e-5 if rope else 1e-12)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_a_later_token_changes_nothing_before_it(family):
    encoder = randomise(TextEncoder(text_config(family, vocab=30, width=16, depth=2, heads=2, context=16)))
    one = torch.randint(30, (1, 10))
    for t in range(10):
        other = one.clone()
        other[0, t] = (one[0, t] + 1 + torch.randint(28, ())) % 30
        change = (encoder(one) - encoder(other)).abs().amax(-1)[0]
        assert change[:t].sum() == 0 and (change[t:] > 1e-9).all()


def test_encoders_see_both_sides():
    for family in ("bert", "modernbert"):
        encoder = randomise(TextEncoder(text_config(family, vocab=30, width=16, depth=1, heads=2)))
        one = torch.randint(30, (1, 6))
        other = one.clone()
        other[0, 5] = (one[0, 5] + 7) % 30
        assert ((encoder(one) - encoder(other)).abs().amax(-1) > 1e-9).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(family):
    encoder = randomise(TextEncoder(text_config(family, vocab=30, width=16, depth=4, heads=2, context=16)))
    ids = torch.randint(30, (1, 7))
    plain = encoder(ids)
    one = torch.ones(1, 7, dtype=torch.long)
    for left, right in [(0, 4), (3, 0), (2, 2)]:
        padded = torch.cat((torch.randint(30, (1, left)), ids, torch.randint(30, (1, right))), 1)
        pads = [torch.zeros(1, n, dtype=torch.long) for n in (left, right)]
        seen = encoder(padded, torch.cat((pads[0], one, pads[1]), 1))
        assert (seen[:, left : left + 7] - plain).abs().max() < 1e-10


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_documents_are_as_if_alone(family):
    encoder = randomise(TextEncoder(text_config(family, vocab=30, width=16, depth=4, heads=2, context=16)))
    docs = [torch.randint(30, (1, n)) for n in (5, 1, 6)]
    packed = torch.cat((*docs, torch.zeros(1, 2, dtype=torch.long)), 1)
    segments = torch.tensor([[1] * 5 + [2] + [3] * 6 + [0] * 2])
    alone = torch.cat([encoder(d) for d in docs], 1)
    assert (encoder(packed, segments)[:, :12] - alone).abs().max() < 1e-10


def test_rotary_scores_depend_on_the_distance_only():
    q, k = torch.randn(1, 1, 1, 8, dtype=D64), torch.randn(1, 1, 1, 8, dtype=D64)

    def score(i, j):
        turned = [rotate(x, rotary_table(torch.tensor([[p]]), 8, 50.0, D64)) for x, p in ((q, i), (k, j))]
        return (turned[0] * turned[1]).sum()

    assert abs(score(3, 1) - score(19, 17)) < 1e-5
    assert abs(score(3, 1) - score(3, 2)) > 1e-3


def test_qk_norm_bounds_the_scores_whatever_the_weights():
    config = text_config("qwen3", vocab=30, width=16, depth=2, heads=2)
    encoder, ids = randomise(TextEncoder(config)), torch.randint(30, (2, 9))
    before = encoder(ids)
    with torch.no_grad():
        for block in encoder.trunk.blocks:
            block.attention.q.weight.mul_(1e3)
            block.attention.k.weight.mul_(1e3)
    assert (encoder(ids) - before).abs().max() < 1e-4  # but for eps
    plain = Transformer(text_config("llama", width=16, depth=2, heads=2).trunk)
    assert not [name for name in plain.state_dict() if "q_norm" in name or "k_norm" in name]


@pytest.mark.filterwarnings("error")
def test_qk_norm_in_bfloat16_keeps_its_mean_in_float32():
    encoder = TextEncoder(text_config("qwen3", vocab=30, width=16, depth=2, heads=2))
    initialize(encoder)
    norms, seen = [block.attention.q_norm for block in encoder.trunk.blocks], []
    for norm in norms:
        norm.register_forward_hook(lambda module, given, made: seen.append((given[0], made)))
    with torch.autocast("cpu", torch.bfloat16):
        encoder(torch.randint(30, (2, 9))).sum().backward()
    for (given, made), norm in zip(seen, norms, strict=True):
        assert given.dtype == made.dtype == torch.bfloat16 and norm.weight.grad.dtype == torch.float32
        exact = given.double() / (given.double().square().mean(-1, True) + norm.eps).sqrt()
        assert (made == exact.bfloat16()).double().mean() > 0.99


def test_positions_and_permutation():
    stack = randomise(Transformer(TransformerConfig(16, 2, AttentionConfig(2), mlp=MlpConfig(8))))
    x, order = torch.randn(1, 6, 16, dtype=D64), torch.randperm(6)
    assert (stack(x)[:, order] - stack(x[:, order])).abs().max() < 1e-12  # without positions: a set
    assert positions_in(torch.tensor([[0, 0, 1, 1, 2, 2, 2]]), 7).tolist() == [[0, 1, 0, 1, 0, 1, 2]]
    table = sinusoidal(torch.arange(3)[None], 4, D64)[0]
    assert table[0].tolist() == [0.0, 1.0, 0.0, 1.0]
    assert abs(table[2, 0] - math.sin(2)) < 1e-6 and abs(table[2, 3] - math.cos(2 / 100)) < 1e-6


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
@pytest.mark.parametrize("pads", ["none", "left", "right"])
@torch.no_grad()
def test_cached_equals_uncached(family, pads):
    config = text_config(
        family, vocab=30, width=16, depth=2, heads=4, kv_heads=None if family == "gpt2" else 2
    )
    encoder = randomise(TextEncoder(config))
    ids = torch.randint(30, (3, 12))
    segments = torch.ones(3, 12, dtype=torch.long)
    if pads != "none":  # prompts of 6, 4 and 1 tokens within the first 6
        for row, n in enumerate((0, 2, 5)):
            segments[row, slice(0, n) if pads == "left" else slice(6 - n, 6)] = 0
    cache, parts = Cache(capacity=7), []
    for start, end in [(0, 6), (6, 7), (7, 10), (10, 11), (11, 12)]:
        given = None if pads == "none" else segments[:, start:end]
        parts.append(encoder(ids[:, start:end], given, cache=cache))
    cached = torch.cat(parts, 1)
    for row in range(3):
        keep = segments[row] != 0
        whole = encoder(ids[row, keep][None])[0]
        assert (cached[row, keep] - whole).abs().max() < 1e-5
    cache.select(torch.tensor([2, 0]))
    more = encoder(
        ids[[2, 0], :1], None if pads == "none" else torch.ones(2, 1, dtype=torch.long), cache=cache
    )
    keep = segments[2] != 0
    again = encoder(torch.cat((ids[2, keep], ids[2, :1]))[None])[0, -1]
    assert (more[0, -1] - again).abs().max() < 1e-5


def test_cross_attention_honours_its_mask():
    stack = randomise(Transformer(TransformerConfig(16, 2, AttentionConfig(2), mlp=MlpConfig(8), cross=True)))
    x, memory = torch.randn(2, 4, 16, dtype=D64), torch.randn(2, 5, 16, dtype=D64)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    other = memory.clone()
    other[0, 3:] = torch.randn(2, 16, dtype=D64)
    out = stack(x, memory=memory, memory_segments=mask)
    assert (out - stack(x, memory=other, memory_segments=mask)).abs().max() < 1e-12
    assert (out[:1] - stack(x[:1], memory=memory[:1, :3])).abs().max() < 1e-12
    assert (out - stack(x, memory=memory))[0].abs().max() > 1e-6
    with pytest.raises(ValueError, match="memory"):
        stack(x)


@pytest.mark.parametrize("cross", [False, True])
def test_adaln_zero_starts_as_the_identity(cross):
    norm = NormConfig(final_norm=False)
    stack = Transformer(
        TransformerConfig(16, 3, AttentionConfig(2), norm, MlpConfig(8), cross, condition=True)
    )
    initialize(stack)
    x, condition = torch.randn(2, 4, 16), torch.randn(2, 16)
    memory = torch.randn(2, 3, 16) if cross else None
    assert torch.equal(stack(x, memory=memory, condition=condition), x)
    for block in stack.blocks:
        torch.nn.init.normal_(block.modulation.weight)
    one = stack(x, memory=memory, condition=condition)
    assert (one - stack(x, memory=memory, condition=-condition)).abs().max() > 1e-3


def test_windows_alternate_with_global_layers():
    config = text_config("modernbert", vocab=30, width=16, depth=7, heads=2)
    assert [b.local for b in Transformer(config.trunk).blocks] == [bool(i % 3) for i in range(7)]


def test_too_long_a_text_says_so():
    encoder = TextEncoder(text_config("gpt2", vocab=30, width=16, depth=1, heads=2, context=8))
    with pytest.raises(DataError, match="9 tokens, but this model reads 8"):
        encoder(torch.zeros(1, 9, dtype=torch.long))
    packed = torch.tensor([[1] * 8 + [2] * 8])  # each document fits
    assert encoder(torch.zeros(1, 16, dtype=torch.long), packed).shape == (1, 16, 16)


def test_residual_outputs_start_smaller_with_depth():
    encoder = TextEncoder(text_config("llama", vocab=300, width=64, depth=8, heads=2))
    initialize(encoder)
    block = encoder.trunk.blocks[3]
    assert abs(block.mlp.up.weight.std() / 0.02 - 1) < 0.05
    assert abs(block.mlp.down.weight.std() / (0.02 / 4) - 1) < 0.05  # 16 sublayers
    assert abs(block.attention.out.weight.std() / (0.02 / 4) - 1) < 0.05


@pytest.mark.parametrize(
    "bad",
    [
        lambda: AttentionConfig(4, 3),
        lambda: TransformerConfig(10, 1, AttentionConfig(4)),
        lambda: TransformerConfig(12, 1, AttentionConfig(4, rope=1e4)),
        lambda: TransformerConfig(16, condition=True, norm=NormConfig(place="post")),
    ],
)
def test_impossible_sizes_are_refused(bad):
    with pytest.raises(ValueError):
        bad()


def small_stack(norm="layer", residual=True, depth=8):
    torch.manual_seed(0)
    parts = AttentionConfig(heads=2), NormConfig(kind=norm), MlpConfig(32)
    stack = Transformer(TransformerConfig(16, depth, *parts, residual=residual))
    initialize(stack)
    return stack


def test_what_residuals_are_worth():
    """A deep stack learns to copy a token in 60 steps with them, and hardly at all without."""

    def learned(residual):
        stack = small_stack(residual=residual)
        head, table = torch.nn.Linear(16, 8), torch.nn.Embedding(8, 16)
        optimizer = torch.optim.Adam([*stack.parameters(), *head.parameters(), *table.parameters()], 3e-3)
        for _ in range(60):
            ids = torch.randint(8, (16, 6))
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(head(stack(table(ids))).flatten(0, 1), ids.flatten())
            loss.backward()
            optimizer.step()
        return loss.item()

    assert learned(True) < 0.5 and learned(False) > 1.5


def test_what_norms_are_worth():
    """Large inputs leave the scale of the output as it is with them, and pass through to it without."""
    x = torch.randn(4, 6, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for kind, most, least in (("layer", 1.5, 0.5), ("none", 200.0, 50.0)):
            stack = small_stack(norm=kind)
            assert least < float(stack(100 * x).std() / stack(x).std()) < most
