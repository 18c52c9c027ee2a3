"""What an operation does to sums of paths: the rules that `paths` goes by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from lth_tutorial.criteria.paths import (
    MADE_LIKE,
    MASKED,
    RULES,
    Path,
    become_path,
    is_counting,
    magnitude,
    path,
    plain,
    refuse,
    run,
)


def _hooked(func, args, kwargs):
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **kwargs)


def _passed_on(func, args, kwargs):
    return next(value for value in (*args, *kwargs.values()) if isinstance(value, Path))


def _softmax(func, args, kwargs):
    x = _passed_on(func, args, kwargs)
    hidden = plain(x) <= MASKED
    result = path(plain(x).masked_fill(hidden, 0), of_input=x.of_input)
    result.factor = (~hidden).to(result.dtype)  # by which values are multiplied
    return result


def _product(func, args, kwargs):
    """Return f(a, 1) + f(1, b) of two paths, and f(a, |c|) of a path and a constant."""
    leaves, tree = tree_flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Path) and leaf.of_input]
    if not places:  # weights that are multiplied make one weight
        return run(func, args, kwargs)
    terms = []
    for place in places:
        one = [
            _factor(leaf) if i in places and i != place else leaf for i, leaf in enumerate(leaves)
        ]
        terms.append(run(func, *tree_unflatten(one, tree)))
    return sum(terms[1:], start=terms[0])


def _factor(leaf: Path) -> Tensor:
    return vars(leaf).get("factor", torch.ones_like(plain(leaf)))


def _scaling(func, args, kwargs):
    return _product(func, *tree_map(magnitude, (args, kwargs)))


def _einsum(func, args, kwargs):
    return _product(func, (args[0], *tree_map(magnitude, args[1:])), kwargs)


def _layer(func, args, kwargs):
    """A layer f(x, weight, bias): weights are magnitudes already, biases do not count."""
    last = 4 if func.__name__ == "bilinear" else 3
    tensors = [magnitude(value) for value in args[:last]]
    kwargs = {k: magnitude(v) if isinstance(v, Tensor) else v for k, v in kwargs.items()}
    if is_counting():
        tensors[last - 1 :] = [None] * len(tensors[last - 1 :])
        kwargs.pop("bias", None)
    return _product(func, (*tensors, *args[last:]), kwargs)


def _sum(func, args, kwargs):
    """Return the sum of two paths; of a path and a constant, with the constant as a bias."""
    a, b = (*args, *(kwargs[name] for name in ("other",) if name in kwargs))[:2]
    if isinstance(a, Path) and isinstance(b, Path):
        alpha = magnitude(kwargs.get("alpha", 1))
        return plain(a) + (plain(b) if alpha == 1 else alpha * plain(b))
    x, constant = (plain(a), b) if isinstance(a, Path) else (plain(b), a)
    if not isinstance(constant, Tensor):
        return biased(x, torch.tensor(float(constant), dtype=x.dtype, device=x.device))
    return biased(x, constant)


def biased(x: Tensor, constant: Tensor) -> Tensor:
    """Return paths to which a constant is added: its magnitude, or nothing where paths count.

    What hides a score of attention goes on as −∞, and a softmax makes no path of it.
    """
    hidden = constant <= MASKED
    if is_counting():
        x = x.expand(torch.broadcast_shapes(x.shape, constant.shape))
    else:
        x = x + constant.to(x.dtype).abs().masked_fill(hidden, 0)
    return x.masked_fill(hidden, -math.inf) if bool(hidden.any()) else x


def _larger(func, args, kwargs):
    other = args[1] if len(args) > 1 else kwargs.get("other")
    if not isinstance(other, Tensor):
        return run(func, args, kwargs)  # over a dimension
    both = isinstance(args[0], Path) and isinstance(other, Path)
    return _sum(func, (args[0], other), {}) if both else _passed_on(func, (args[0], other), {})


def _quotient(func, args, kwargs):
    a, b = (*args, *(kwargs[name] for name in ("other", "exponent") if name in kwargs))[:2]
    if isinstance(a, Path) and isinstance(b, Path):
        return plain(a) + plain(b)
    if isinstance(b, Path) or "div" not in func.__name__ or "rdiv" in func.__name__:
        return plain(b) if isinstance(b, Path) else plain(a)
    factor = magnitude(b)
    return plain(a) / (factor.where(factor != 0, 1.0) if isinstance(factor, Tensor) else factor)


def _spread(func, args, kwargs):
    """Standard deviations, norms and the like: what enters them comes out."""
    x, rest = plain(args[0]), list(args[1:])
    if "norm" in func.__name__:
        rest = rest[1:]
    dim = kwargs.get("dim", rest[0] if rest and not isinstance(rest[0], bool) else None)
    keep = kwargs.get("keepdim", False) or rest[1:] == [True]
    reduce = x.mean if func.__name__ in ("std", "var") else x.sum
    return reduce() if dim is None else reduce(dim=dim, keepdim=keep)


def _written_into(func, args, kwargs):
    leaves, _ = tree_flatten((args[1:], kwargs))
    dtype = next((plain(v).dtype for v in leaves if isinstance(v, Path)), args[0].dtype)
    become_path(args[0], dtype)
    run(func, args, kwargs)
    return args[0]


def _item(func, args, kwargs):
    if isinstance(args[0], Path):
        return run(func, args, kwargs)
    return torch.ones_like(torch.empty((*args[1].shape, *args[0].shape[1:])), dtype=args[1].dtype)


def _looked_up(func, args, kwargs):
    """Embeddings are where paths begin: every token gives ones."""
    x = plain(args[0])
    wide = kwargs.get("num_classes", args[1]) if func.__name__ == "one_hot" else args[1].shape[1]
    return torch.ones((*x.shape, wide), dtype=x.dtype, device=x.device)


def _compared(func, args, kwargs):
    if isinstance(args[1], Tensor) or args[1] != 0:
        refuse(f"a comparison with {'values' if isinstance(args[1], Tensor) else args[1]}")
    return run(func, args, kwargs)


def _chosen(func, args, kwargs):
    """`where` and `masked_fill`: a constant in a path's place is none, and may hide a score."""
    if func.__name__.startswith("masked_fill"):
        condition, values = args[1], [args[2] if len(args) > 2 else kwargs["value"], args[0]]
    elif isinstance(args[0], Path) and not isinstance(args[1], Path):  # x.where(condition, other)
        condition, values = args[1], [args[0], args[2]]
    else:
        condition, values = args[0], list(args[1:])
    values = [v if isinstance(v, Path) else _hiding(v) for v in values]
    return run(torch.where, (condition, *values), {})


def _hiding(constant: Any) -> float:
    return -math.inf if bool(torch.as_tensor(constant <= MASKED).any()) else 0.0


def _table(rule: Callable, names: str) -> dict[str, Callable]:
    return dict.fromkeys(names.split(), rule)


AS_IT_IS = set(
    """
    __get__ __set__ size dim numel stride is_contiguous is_floating_point is_complex element_size
    __len__ nelement ndimension get_device __repr__ __format__ isnan
    isinf isfinite storage_offset
    view reshape flatten ravel permute transpose t movedim moveaxis swapaxes swapdims unsqueeze
    squeeze expand expand_as broadcast_to broadcast_tensors repeat repeat_interleave tile
    contiguous clone view_as reshape_as unflatten split split_with_sizes tensor_split chunk unbind
    narrow select unfold fold flip fliplr flipud roll rot90 tril triu diagonal diag pixel_shuffle
    pixel_unshuffle channel_shuffle native_channel_shuffle index_select gather take_along_dim
    masked_select hsplit vsplit dsplit meshgrid requires_grad_ cat concat concatenate stack hstack
    vstack relu relu_ sum mean cumsum amax amin max_pool1d max_pool2d max_pool3d avg_pool1d
    avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d interpolate upsample pad
    constant_pad_nd
""".split()
)
RULES.update(
    {
        **dict.fromkeys(AS_IT_IS, run),
        **_table(_hooked, "register_hook retain_grad"),
        **_table(
            _passed_on,
            """
        to float double half bfloat16 type type_as cpu cuda long int detach relu6 hardtanh elu
        selu celu gelu silu mish tanh sigmoid logsigmoid log_sigmoid hardsigmoid hardswish
        softplus softsign tanhshrink hardshrink softshrink threshold _threshold leaky_relu rrelu
        prelu normalize local_response_norm clamp clip clamp_min clamp_max abs absolute exp exp2
        expm1 log log1p log2 log10 sqrt rsqrt square reciprocal sign _sign sgn sin cos atan
        arctan erf sinh cosh asinh neg negative nan_to_num round floor ceil trunc dropout
        dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout expit
    """,
        ),
        **_table(_softmax, "softmax softmin log_softmax gumbel_softmax"),
        **_table(
            _layer,
            """
        linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d bilinear
    """,
        ),
        **_table(_scaling, "mul multiply matmul bmm mm mv dot outer inner tensordot"),
        **_table(_einsum, "einsum"),
        **_table(_sum, "add sub subtract rsub hypot logaddexp"),
        **_table(_larger, "max min maximum minimum fmax fmin"),
        **_table(_quotient, "div divide true_divide pow float_power"),
        **_table(_spread, "std var norm vector_norm logsumexp prod"),
        **dict.fromkeys(MADE_LIKE, run),
        **_table(
            _written_into,
            """
        __setitem__ copy_ index_copy_ index_add_ index_put_ scatter_ scatter_add_
    """,
        ),
        **_table(_item, "__getitem__"),
        **_table(_looked_up, "embedding one_hot"),
        **_table(_compared, "gt ge lt le ne eq __gt__ __ge__ __lt__ __le__ __ne__ __eq__"),
        **_table(_chosen, "where masked_fill"),
    }
)
