"""Second derivatives, for GraSP and the Hessian: where kernels lack them, and of batch norm.

`differentiable_twice` takes the fused kernels apart that PyTorch cannot differentiate twice.

Batch norm gives y = γ x̂ + β with x̂ = (x − μ) r and r = 1/√(var + ε); μ and var are those of a
channel over the batch, and so is every mean ⟨·⟩ here. A gradient d of y is a gradient of x of

    g(d, x) = γ r (d − ⟨d⟩ − a x̂)   with a = ⟨d x̂⟩.

PyTorch differentiates g in some thirty steps over the whole input. By hand it takes few: with
b = ⟨v x̂⟩ and c = ⟨v (d − ⟨d⟩)⟩, a gradient v of g is

    a gradient of d of   g(v, x),
    a gradient of x of   −γ r² (a (v − ⟨v⟩) + b (d − ⟨d⟩) + (c − 3 a b) x̂),

because ∂r/∂x = −r² x̂ / n for the n values of a channel, whatever ε is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


@contextmanager
def differentiable_twice(model: nn.Module, criterion: str) -> Iterator[None]:
    """Compute in kernels that can be differentiated twice, forward and backward.

    Raises:
        ValueError: where an operation has no second derivative; repeats what PyTorch says of it.
    """
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    except (RuntimeError, NotImplementedError) as error:
        if "derivative" not in str(error) and "ouble backward" not in str(error):
            raise
        raise ValueError(
            f"{criterion} differentiates twice, and an operation of {type(model).__name__} can be "
            f"differentiated only once: {error}"
        ) from error


class LeanSecondDerivatives(TorchFunctionMode):
    """A context for a forward pass to differentiate twice; the model itself is not changed.

    It redirects `F.batch_norm`, which the modules call. Scale and shift count as constants there;
    where they are computed, or the statistics are running ones, PyTorch's derivative stays.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return (_batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


def _batch_norm(x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    constant = all(t is None or t.is_leaf for t in (weight, bias))
    if training and constant and x.numel() > x.shape[1]:  # PyTorch refuses a single value
        return _BatchNorm.apply(x, weight, bias, eps)
    return F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale, shift, eps):
        y, mean, r = torch.native_batch_norm(x, scale, shift, None, None, True, 0.0, eps)
        ctx.save_for_backward(x, scale, mean, r)
        return y

    @staticmethod
    def backward(ctx, d):
        return _Gradient.apply(d, *ctx.saved_tensors), None, None, None


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, d, x, scale, mean, r):
        g, a, d_mean = _gradient(d, x, scale, mean, r)
        ctx.save_for_backward(d, x, scale, mean, r, a, d_mean)
        return g

    @staticmethod
    @once_differentiable
    def backward(ctx, v):
        d, x, scale, mean, r, a, d_mean = ctx.saved_tensors
        of_d, b, v_mean = _gradient(v, x, scale, mean, r)
        c = _gradient(v, d, None, d_mean, torch.ones_like(r))[1]  # ⟨v x̂⟩ for an x̂ of d − ⟨d⟩
        outer = -r.square() if scale is None else -r.square() * scale
        k = [outer * a, outer * b, outer * (c - 3 * a * b) * r]
        k.append(-(k[0] * v_mean + k[1] * d_mean + k[2] * mean))
        k = [t.view(-1, *[1] * (x.ndim - 2)) for t in k]
        of_x = (v * k[0]).addcmul_(d, k[1]).addcmul_(x, k[2]).add_(k[3])
        return of_d, of_x, None, None, None


def _gradient(d, x, scale, mean, r):
    """Return g(d, x), ⟨d x̂⟩ and ⟨d⟩."""
    scale = torch.ones_like(r) if scale is None else scale  # CUDA sums nothing without one
    given = (d, x, scale, None, None, mean, r, True, 0.0, [True] * 3)  # r stands for ε
    g, *sums = torch.ops.aten.native_batch_norm_backward(*given)
    return g, *(total * x.shape[1] / x.numel() for total in sums)
