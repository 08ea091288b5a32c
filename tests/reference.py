"""Every op in plain float64 numpy, forward and backward side by side: what the kernels are held against.

Written for reading, not for speed, and without a look at the kernels: dense masks, whole matrices, loops. Letters as
everywhere: B batch, T tokens, C channels, H heads, D head size, V vocabulary, R rank. Gradients are `d` + the name.
`numerical_gradient` holds the backward functions to the forward ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def numerical_gradient(function: Callable[[Array], Array], x: Array, dy: Array, step: float = 1e-6) -> Array:
    """Return the gradient of sum(dy * function(x)) at x by central differences, one element at a time."""
    gradient = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        nudge = np.zeros(x.shape)
        nudge[index] = step
        gradient[index] = np.sum(dy * (function(x + nudge) - function(x - nudge))) / (2 * step)
    return gradient


def directional_derivative(
    function: Callable[[Array], Array], x: Array, dy: Array, direction: Array, step: float = 1e-6
) -> float:
    """Return the derivative of sum(dy * function(x)) along `direction`: one difference for a tensor of any size."""
    return float(np.sum(dy * (function(x + step * direction) - function(x - step * direction))) / (2 * step))


# --- weights ---


# Of the forms whose values the `gguf` package decodes for us: (elements, bytes of a block, where its f16 scale and, if
# it has one, its f16 minimum begin, how large they have to be for values of about 0.3).
GGUF_BLOCKS = {
    "q5_0": (32, 22, (0,), 0.03), "q5_1": (32, 24, (0, 2), 0.02), "iq4_nl": (32, 18, (0,), 0.004),
    "q2_k": (256, 84, (80, 82), 0.02), "q3_k": (256, 110, (108,), 0.007), "q4_k": (256, 144, (0, 2), 0.001),
    "q5_k": (256, 176, (0, 2), 0.0005), "q6_k": (256, 210, (208,), 0.0002), "iq4_xs": (256, 136, (0,), 0.0003),
}  # fmt: skip


def random_weight(form: str, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Array, Array]:
    """Return (raw rows as a file holds them, uint8 (out, row bytes); their values, float64 (out, in))."""
    rows, columns = shape
    if form in GGUF_BLOCKS:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        elements, size, scales, std = GGUF_BLOCKS[form]
        raw = rng.integers(0, 256, (rows * columns // elements, size), dtype=np.uint8)
        for at in scales:
            raw[:, at : at + 2] = rng.normal(0, std, (len(raw), 1)).astype(np.float16).view(np.uint8)
        raw = raw.reshape(rows, -1)
        return raw, dequantize(raw, GGMLQuantizationType[form.upper()]).astype(np.float64)
    if form in ("f32", "f16", "bf16"):
        values = rng.normal(0, 0.3, shape).astype(np.float32)
        if form == "f16":
            values = values.astype(np.float16)
        if form == "bf16":
            upper = (values.view(np.uint32) >> 16).astype(np.uint16)
            return upper.view(np.uint8), (upper.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        return values.view(np.uint8), values.astype(np.float64)
    blocks = rows * columns // 32
    scale = rng.normal(0, 0.05, (blocks, 1)).astype(np.float16)
    if form == "q8_0":
        quants = rng.integers(-128, 128, (blocks, 32)).astype(np.int8)
        raw = np.hstack([scale.view(np.uint8), quants.view(np.uint8)])
        return raw.reshape(rows, -1), (scale.astype(np.float64) * quants).reshape(shape)
    quants = rng.integers(0, 16, (blocks, 32)).astype(np.uint8)
    nibbles = quants[:, :16] | quants[:, 16:] << 4
    if form == "q4_0":
        raw = np.hstack([scale.view(np.uint8), nibbles])
        return raw.reshape(rows, -1), (scale.astype(np.float64) * (quants.astype(np.float64) - 8)).reshape(shape)
    low = rng.normal(0, 0.2, (blocks, 1)).astype(np.float16)
    raw = np.hstack([scale.view(np.uint8), low.view(np.uint8), nibbles])
    return raw.reshape(rows, -1), (scale.astype(np.float64) * quants + low).reshape(shape)


# --- ops ---


def embedding(tokens: Array, table: Array) -> Array:
    return table[tokens]


def rmsnorm(x: Array, gain: Array, eps: float) -> Array:
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps) * gain


def rmsnorm_backward(dy: Array, x: Array, gain: Array, eps: float) -> Array:
    """Through the quotient rule: y = h / s with h = x gain and s = sqrt(mean(x^2) + eps)."""
    s = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps)
    ds = -np.sum(dy * x * gain, axis=-1, keepdims=True) / s**2
    return dy * gain / s + ds * x / (s * x.shape[-1])


def linear(x: Array, weight: Array, a: Array | None = None, b: Array | None = None, scale: float = 0.0) -> Array:
    """The adapter merged into the weight: (W + scale B A), so that the kernel's own order is not repeated here."""
    return x @ (weight if a is None else weight + scale * b @ a).T


def linear_backward(
    dy: Array, x: Array, weight: Array, a: Array | None = None, b: Array | None = None, scale: float = 0.0
) -> dict[str, Array]:
    """Return dx and, with an adapter, dA = scale BT dW and dB = scale dW AT with dW = dyT x."""
    if a is None or b is None:
        return {"x": dy @ weight}
    dweight = dy.T @ x
    return {"x": dy @ (weight + scale * b @ a), "a": scale * b.T @ dweight, "b": scale * dweight @ a.T}


def rope_frequencies(head_dim: int, theta: float, scaling: Mapping[str, Any] | None = None) -> Array:
    """Return the D / 2 angles of one position, one frequency at a time as the papers and Llama 3.1 state them."""
    frequencies = []
    for d in range(head_dim // 2):
        frequency = 1 / theta ** (2 * d / head_dim)
        kind = (scaling or {}).get("rope_type", "default")
        if scaling and kind == "linear":
            frequency /= scaling["factor"]
        if scaling and kind == "llama3":
            turns = scaling["original_max_position_embeddings"] * frequency / (2 * math.pi)  # within the old context
            low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
            kept = min(max((turns - low) / (high - low), 0.0), 1.0)
            frequency = kept * frequency + (1 - kept) * frequency / scaling["factor"]
        if scaling and kind == "yarn":
            # The channel whose wave turns `turns` times within the old context, as a real number.
            def channel(turns: float) -> float:
                old = scaling["original_max_position_embeddings"]
                return head_dim / 2 * math.log(old / (2 * math.pi * turns)) / math.log(theta)

            first = max(math.floor(channel(scaling["beta_fast"])), 0)
            last = min(math.ceil(channel(scaling["beta_slow"])), head_dim - 1)
            slowed = min(max((d - first) / max(last - first, 0.001), 0.0), 1.0)
            frequency = (1 - slowed) * frequency + slowed * frequency / scaling["factor"]
        frequencies.append(frequency)
    return np.array(frequencies)


def rope(x: Array, positions: Array, heads: int, frequencies: Array) -> Array:
    """Channel d and channel d + D / 2 of a head as one complex number, turned by position * frequency."""
    halves = x.reshape(len(x), heads, 2, -1)
    turned = (halves[:, :, 0] + 1j * halves[:, :, 1]) * np.exp(1j * np.outer(positions, frequencies))[:, None]
    return np.stack([turned.real, turned.imag], axis=2).reshape(x.shape)


def rope_backward(dy: Array, positions: Array, heads: int, frequencies: Array) -> Array:
    """A rotation's transpose is the rotation back."""
    return rope(dy, positions, heads, -frequencies)


def _attention_parts(
    q: Array, k: Array, v: Array, positions: Array, length: int, heads: int, kv_heads: int, past: int,
    window: int | None = None,
):  # fmt: skip
    """Return q (B, H, T, D), k and v (B, H, keys, D) with every KV head repeated, and the mask (B, T, keys)."""
    head_dim = q.shape[-1] // heads
    batch = len(q) // length
    share = heads // kv_heads

    def split(x: Array, count: int) -> Array:
        return x.reshape(batch, -1, count, head_dim).transpose(0, 2, 1, 3)

    queries = past + np.arange(length)[:, None]
    keys = np.arange(len(k) // batch)[None, :]
    begins = queries - positions.reshape(batch, length, 1).astype(np.int64)  # of the segment that a query belongs to
    mask = (keys <= queries) & (keys >= begins)
    if window is not None:
        mask &= queries - keys < window
    return split(q, heads), np.repeat(split(k, kv_heads), share, 1), np.repeat(split(v, kv_heads), share, 1), mask


def _softmax(scores: Array) -> Array:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def attention(
    q: Array, k: Array, v: Array, positions: Array, length: int, heads: int, kv_heads: int, past: int = 0,
    scale: float | None = None, window: int | None = None, softcap: float = 0.0,
) -> Array:  # fmt: skip
    """Causal attention over the whole T x T matrix. Positions that restart at 0 begin a new segment.

    A query sees `window` keys, itself among them; scores are softcap * tanh(score / softcap).
    """
    qs, ks, vs, mask = _attention_parts(q, k, v, positions, length, heads, kv_heads, past, window)
    scores = qs @ ks.swapaxes(-1, -2) * (1 / math.sqrt(qs.shape[-1]) if scale is None else scale)
    if softcap:
        scores = softcap * np.tanh(scores / softcap)
    p = _softmax(np.where(mask[:, None], scores, -np.inf))
    return (p @ vs).transpose(0, 2, 1, 3).reshape(q.shape)


def attention_backward(
    dout: Array, q: Array, k: Array, v: Array, positions: Array, length: int, heads: int, kv_heads: int,
    scale: float | None = None, window: int | None = None, softcap: float = 0.0,
) -> dict[str, Array]:  # fmt: skip
    qs, ks, vs, mask = _attention_parts(q, k, v, positions, length, heads, kv_heads, 0, window)
    batch, _, _, head_dim = qs.shape
    scale = 1 / math.sqrt(head_dim) if scale is None else scale
    scores = qs @ ks.swapaxes(-1, -2) * scale
    slope = np.ones(())
    if softcap:
        slope = 1 / np.cosh(scores / softcap) ** 2
        scores = softcap * np.tanh(scores / softcap)
    p = _softmax(np.where(mask[:, None], scores, -np.inf))
    do = dout.reshape(batch, length, heads, head_dim).transpose(0, 2, 1, 3)
    dp = do @ vs.swapaxes(-1, -2)
    ds = p * (dp - np.sum(dp * p, axis=-1, keepdims=True)) * slope  # the softmax's Jacobian, then the cap's

    def join(x: Array, count: int) -> Array:  # the query heads that share one of `count` heads add up
        shared = x.reshape(batch, count, heads // count, length, head_dim).sum(axis=2)
        return shared.transpose(0, 2, 1, 3).reshape(batch * length, count * head_dim)

    return {
        "q": join(ds @ ks * scale, heads),
        "k": join(ds.swapaxes(-1, -2) @ qs * scale, kv_heads),
        "v": join(p.swapaxes(-1, -2) @ do, kv_heads),
    }


def _short_conv_matrices(weight: Array, positions: Array) -> Array:
    """Return (channels, rows, rows): what each filter does to the rows, text by text, one impulse after another."""
    channels, rows = len(weight), len(positions)
    begins = [*np.flatnonzero(positions == 0), rows]
    matrices = np.zeros((channels, rows, rows))
    for c in range(channels):
        for first, end in itertools.pairwise(begins):
            for t, impulse in enumerate(np.eye(end - first)):
                matrices[c, first:end, first + t] = np.convolve(impulse, weight[c, ::-1])[: end - first]
    return matrices


def short_conv(bcx: Array, weight: Array, positions: Array) -> Array:
    """C * (causal convolution of B * x). Positions that restart at 0 begin a new text."""
    b, c, x = np.split(bcx, 3, axis=1)
    return c * np.einsum("ctu,uc->tc", _short_conv_matrices(weight, positions), b * x)


def short_conv_backward(dy: Array, bcx: Array, weight: Array, positions: Array) -> Array:
    b, c, x = np.split(bcx, 3, axis=1)
    matrices = _short_conv_matrices(weight, positions)
    du = np.einsum("ctu,tc->uc", matrices, dy * c)
    return np.concatenate([du * x, dy * np.einsum("ctu,uc->tc", matrices, b * x), du * b], axis=1)


def swiglu(gate: Array, up: Array) -> Array:
    return gate / (1 + np.exp(-gate)) * up


def swiglu_backward(dy: Array, gate: Array, up: Array) -> dict[str, Array]:
    s = 1 / (1 + np.exp(-gate))
    return {"gate": dy * up * (s + gate * s * (1 - s)), "up": dy * gate * s}


def geglu(gate: Array, up: Array) -> Array:
    """GELU by its tanh form (Hendrycks & Gimpel 2016)."""
    return 0.5 * gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3))) * up


def geglu_backward(dy: Array, gate: Array, up: Array) -> dict[str, Array]:
    inner = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
    # 1 - tanh^2 as 1 / cosh^2, which does not cancel; beyond +-300 it is 0 in float64 anyway.
    sech2 = 1 / np.cosh(np.clip(inner, -300, 300)) ** 2
    slope = 0.5 * (1 + np.tanh(inner))
    slope = slope + 0.5 * gate * sech2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * gate**2)
    return {"gate": dy * up * slope, "up": geglu(gate, dy)}


def cross_entropy(x: Array, weight: Array, rows: Array, targets: Array, inv_tokens: float) -> float:
    """Return the sum over the trained rows of -log p(target), times inv_tokens."""
    total = 0.0
    for row, target in zip(rows, targets, strict=True):
        logits = x[row] @ weight.T
        largest = logits.max()
        total += largest + math.log(np.exp(logits - largest).sum()) - logits[target]
    return total * inv_tokens


def cross_entropy_backward(x: Array, weight: Array, rows: Array, targets: Array, inv_tokens: float) -> Array:
    dx = np.zeros(x.shape)
    for row, target in zip(rows, targets, strict=True):
        p = _softmax(x[row] @ weight.T)
        p[target] -= 1
        dx[row] += inv_tokens * p @ weight
    return dx


def grad_norm(grads: Array) -> float:
    return math.sqrt(math.fsum(float(g) ** 2 for g in grads))


def adamw(
    p: Array, grad: Array, m: Array, v: Array, t: int, *, lr: float, betas: tuple[float, float], eps: float,
    weight_decay: float, max_norm: float,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Return p, m, v after step t (1 is the first): clipped by the total norm, then PyTorch's AdamW."""
    if max_norm:
        grad = grad * min(1.0, max_norm / (grad_norm(grad) + 1e-6))
    m = betas[0] * m + (1 - betas[0]) * grad
    v = betas[1] * v + (1 - betas[1]) * grad**2
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return p - lr * weight_decay * p - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


# --- the sampler ---


def sampling_probabilities(
    logits: Array, seen: Sequence[int] = (), *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
    min_p: float = 0.0, repetition_penalty: float = 1.0,
) -> Array:  # fmt: skip
    """Return the probability of each token (V), 0 for those that are cut. Temperature 0: 1 for the first largest.

    Equal logits are cut or kept together.
    """
    logits = logits.astype(np.float64).copy()
    for token in set(seen):
        logits[token] = logits[token] / repetition_penalty if logits[token] > 0 else logits[token] * repetition_penalty
    if temperature == 0:
        return np.eye(len(logits))[np.argmax(logits)]
    logits /= temperature
    if top_k:
        kth = np.sort(logits)[::-1][min(top_k, len(logits)) - 1]
        logits[logits < kth] = -np.inf
    if top_p < 1:
        order = np.argsort(-logits, kind="stable")
        reached = np.searchsorted(np.cumsum(_softmax(logits)[order]), top_p)  # the first token at which top_p is met
        logits[logits < logits[order[min(reached, len(order) - 1)]]] = -np.inf
    p = _softmax(logits)
    return _softmax(np.where(p >= min_p * p.max(), logits, -np.inf))


def pcg(value: int) -> int:
    """The 32-bit PCG hash, RXS-M-XS."""
    state = (value * 747796405 + 2891336453) % 2**32
    word = ((state >> ((state >> 28) + 4)) ^ state) * 277803737 % 2**32
    return (word >> 22) ^ word


def draw(probabilities: Array, seed: int, number: int) -> int:
    """Return the token at which the cumulative probability, in the vocabulary's order, passes the uniform number."""
    uniform = (pcg(seed ^ pcg(number)) >> 8) / 2**24
    return int(np.searchsorted(np.cumsum(probabilities) / probabilities.sum(), uniform, side="right"))
