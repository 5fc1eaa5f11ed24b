"""Layers, with PyTorch's names and arguments, channels last."""

from . import init
from .containers import Residual, Sequential, SqueezeExcitation
from .layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    ChannelShuffle,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
    ReLU6,
    Sigmoid,
    Tanh,
)
from .loss import CrossEntropyLoss, DistillationLoss
from .module import Module, Parameter, inference

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "ChannelShuffle",
    "Conv2d",
    "CrossEntropyLoss",
    "DistillationLoss",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "Linear",
    "LocalResponseNorm",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Residual",
    "Sequential",
    "Sigmoid",
    "SqueezeExcitation",
    "Tanh",
    "inference",
    "init",
]
