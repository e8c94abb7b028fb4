"""Gradients: the engine that walks the record, and the transforms that people call."""

from plugrad.autograd.check import gradcheck
from plugrad.autograd.custom import custom_vjp
from plugrad.autograd.recompute import checkpoint
from plugrad.autograd.transforms import grad, hessian, jacobian, jvp, value_and_grad, vjp

__all__ = [
    "checkpoint",
    "custom_vjp",
    "grad",
    "gradcheck",
    "hessian",
    "jacobian",
    "jvp",
    "value_and_grad",
    "vjp",
]
