"""Blocks that PyTorch computes in one piece, taken apart so that paths can be followed.

Norms, attention and recurrent layers, in the operations for which `paths` has rules. An attention
score that a mask hides carries no path, nor does the value behind it; biases of a block count as
in any layer.
"""

from __future__ import annotations

import inspect
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_tutorial.criteria.paths import (
    RULES,
    Path,
    is_counting,
    magnitude,
    path,
    plain,
    refuse,
    run,
)
from lth_tutorial.criteria.rules import biased


def _norm(weight_at: int, dim: int | None):
    """Return the rule of a norm: its scale is argument `weight_at`, over `dim` or the last ones."""

    def rule(func, args, kwargs):
        x, given = plain(args[0]), dict(enumerate(args))
        weight = kwargs.get("weight", given.get(weight_at))
        bias = kwargs.get("bias", given.get(weight_at + 1))
        return _affine(x, weight, None if func.__name__ == "rms_norm" else bias, dim)

    return rule


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, dim: int | None) -> Tensor:
    if is_counting():
        return x
    shape = [1] * x.ndim
    for factor, apply in ((weight, torch.mul), (bias, biased)):
        if isinstance(factor, Tensor):
            factor = plain(factor).abs().to(x.dtype)
            if dim is not None:
                shape[dim] = len(factor)
                factor = factor.view(shape)
            x = apply(x, factor)
    return x


def _batch_norm(func, args, kwargs):
    """With running statistics as it is: it scales and shifts. Else a norm like the others."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training")
    given = dict(zip(names, args, strict=False)) | kwargs
    if func is not F.batch_norm:
        refuse("torch.batch_norm, called by hand,")
    if given.get("training") or given["running_mean"] is None or is_counting():
        return _affine(plain(given["input"]), given.get("weight"), given.get("bias"), 1)
    return run(func, args, kwargs)


def _instance_norm(func, args, kwargs):
    if func is not F.instance_norm:
        refuse("torch.instance_norm, called by hand,")
    return _norm(3, 1)(func, args, kwargs)


def _attention(func, args, kwargs):
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    given = dict(zip(names, args, strict=False)) | kwargs
    query, key, value, mask = (given.get(name) for name in names[:4])
    if given.get("enable_gqa"):
        key, value = (
            t.repeat_interleave(query.shape[-3] // t.shape[-3], dim=-3) for t in (key, value)
        )
    scale = given.get("scale")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return attend(query, key, value, mask, scale, given.get("is_causal"))[0]


def attend(query, key, value, mask: Tensor | None, scale: float, causal: bool = False):
    """Return what attention makes of queries, keys and values, and its weights."""
    scores = query @ key.mT * scale
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -math.inf)
    elif mask is not None:
        scores = scores + mask
    weights = scores.softmax(dim=-1)
    return weights @ value, weights


def _multi_head_attention(func, args, kwargs):
    """`nn.MultiheadAttention`: its arguments are those of the function in PyTorch."""
    given = dict(inspect.signature(func).bind(*args, **kwargs).arguments)
    if given["bias_k"] is not None or given["add_zero_attn"]:
        refuse("attention with bias_k, bias_v or add_zero_attn")
    inputs = [given[name] for name in ("query", "key", "value")]
    single = inputs[0].dim() == 2
    inputs = [x.unsqueeze(1) for x in inputs] if single else inputs
    bias = given["in_proj_bias"]
    biases = [None] * 3 if bias is None else bias.chunk(3)
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    own = given.get("use_separate_proj_weight", False)
    weights = [given[n] for n in names] if own else given["in_proj_weight"].chunk(3)
    heads = given["num_heads"]
    query, key, value = (
        F.linear(x, w, b).unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)  # [batch, heads, time, …]
        for x, w, b in zip(inputs, weights, biases, strict=True)
    )
    mask = given.get("attn_mask")
    if mask is not None and mask.dim() == 3:
        mask = mask.unflatten(0, (-1, heads))
    scores = query @ key.mT * query.shape[-1] ** -0.5
    for each, keep in ((mask, None), (given.get("key_padding_mask"), "keys")):
        if each is None:
            continue
        each = each[:, None, None] if keep and each.dim() == 2 else each
        hidden = each if each.dtype == torch.bool else None
        scores = scores + each if hidden is None else scores.masked_fill(hidden, -math.inf)
    attention = scores.softmax(dim=-1)
    joined = (attention @ value).permute(2, 0, 1, 3).flatten(2)
    output = F.linear(joined, given["out_proj_weight"], given["out_proj_bias"])
    if not given.get("need_weights", True):
        attention = None
    elif given.get("average_attn_weights", True):
        attention = attention.mean(dim=1)
    if single:
        output, attention = output[:, 0], None if attention is None else attention[0]
    return output, attention


def _cell(kind: str, x, h, c, w, u, b, v):
    """Return the next hidden state (and cell state) of a recurrent layer."""
    if kind == "gru":
        (r, z, n), (hr, hz, hn) = F.linear(x, w, b).chunk(3, -1), F.linear(h, u, v).chunk(3, -1)
        z = (z + hz).sigmoid()
        return (1 - z) * (n + (r + hr).sigmoid() * hn).tanh() + z * h, None
    gates = F.linear(x, w, b) + F.linear(h, u, v)
    if kind != "lstm":
        return gates.tanh(), None
    i, f, g, o = gates.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _recurrent(func, args, kwargs):
    """torch.lstm, gru, rnn_tanh and rnn_relu of sequences that are not packed."""
    kind = func.__name__.split("_")[0]
    if len(args) != 9 or not isinstance(args[3], bool):
        refuse(f"{func.__name__} of packed sequences")
    x, start, params, biased_, layers, _, _, both, batch_first = args
    starts = start if kind == "lstm" else (start, start)
    x = x.transpose(0, 1) if batch_first else x  # [time, batch, features]
    params, per = list(params), len(params) // (layers * (2 if both else 1))
    ends: list[tuple] = []
    for _layer in range(layers):
        outputs = []
        for backwards in (False, True)[: 2 if both else 1]:
            own, params = params[:per], params[per:]
            h, c = (path_like(s[len(ends)], x) for s in starts)
            steps = []
            for t in range(x.shape[0])[:: -1 if backwards else 1]:
                biases = own[2:4] if biased_ else (None, None)
                h, c = _cell(kind, x[t], h, c, own[0], own[1], *biases)
                if per in (3, 5):  # a projection of the hidden state
                    h = F.linear(h, own[-1])
                steps.append(h)
            outputs.append(torch.stack(steps[:: -1 if backwards else 1]))
            ends.append((h, c))
        x = torch.cat(outputs, dim=-1)
    x = x.transpose(0, 1) if batch_first else x
    states = [torch.stack(list(each)) for each in zip(*ends, strict=True) if each[0] is not None]
    return (x, *states)


def _recurrent_cell(func, args, kwargs):
    kind = func.__name__.split("_")[0]
    x, start, w, u, *rest = args
    biases = [*rest, None, None][:2]
    h, c = start if kind == "lstm" else (start, None)
    h, c = _cell(kind, x, path_like(h, x), path_like(c, x), w, u, *biases)
    return h if c is None else (h, c)


def path_like(state: Tensor | None, x: Path) -> Path | None:
    """Return a first state as a path in the precision of others; zeros carry none."""
    if state is None or isinstance(state, Path):
        return state
    return path(magnitude(state).to(x.dtype))


def _add_product(func, args, kwargs):
    """addmm and baddbmm: a bias, or a path, plus a product."""
    first, a, b = args
    return first + a @ b


def _gated(func, args, kwargs):
    a, b = args[0].chunk(2, dim=args[1] if len(args) > 1 else kwargs.get("dim", -1))
    return a * b.sigmoid()


def _weight_norm(func, args, kwargs):
    """A weight of direction v and length g: a product of the two."""
    return plain(args[0]) * plain(args[1])


def _power_pooled(func, args, kwargs):
    """Pooling by a power mean: like any other, a sum."""
    x, _power, size, *rest = args
    stride = kwargs.get("stride", rest[0] if rest else None)
    ceil = kwargs.get("ceil_mode", rest[1] if len(rest) > 1 else False)
    pool = F.avg_pool1d if "1d" in func.__name__ else F.avg_pool2d
    return pool(plain(x), size, stride, ceil_mode=ceil)


def _weighted(func, args, kwargs):
    """lerp, addcmul and addcdiv."""
    if func.__name__.startswith("lerp"):
        return args[0] + args[1]
    return args[0] + (args[1] * args[2] if "mul" in func.__name__ else args[1] / args[2])


def _similarity(func, args, kwargs):
    dim = args[2] if len(args) > 2 else kwargs.get("dim", 1)
    return (args[0] * args[1]).sum(dim=dim)


def _means_and_spreads(func, args, kwargs):
    mean = args[0].mean(*args[1:], **{k: v for k, v in kwargs.items() if k in ("dim", "keepdim")})
    return mean, mean


RULES.update(
    batch_norm=_batch_norm,
    instance_norm=_instance_norm,
    layer_norm=_norm(2, None),
    rms_norm=_norm(2, None),
    group_norm=_norm(2, 1),
    scaled_dot_product_attention=_attention,
    multi_head_attention_forward=_multi_head_attention,
    glu=_gated,
    lp_pool1d=_power_pooled,
    lp_pool2d=_power_pooled,
    _weight_norm=_weight_norm,
    cosine_similarity=_similarity,
    std_mean=_means_and_spreads,
    var_mean=_means_and_spreads,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    **{f"{kind}_cell": _recurrent_cell for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    **dict.fromkeys(("addmm", "baddbmm"), _add_product),
    **dict.fromkeys(("lerp", "addcmul", "addcdiv"), _weighted),
)
