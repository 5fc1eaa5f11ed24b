"""Benchmarks: training steps, inference, layers and start-up, beside PyTorch and ONNX Runtime.

The parent process measures nothing. Each side runs in a process of its own
(:mod:`~tinyshuffle.bench.worker`, driven through :class:`~tinyshuffle.bench.process.Worker`), the
sides take turns, A B A B, and what is compared are neighbouring turns.
"""

from .run import Case, Result, compare_sides, compare_threads, measure_layers, speed_ups
from .startup import measure_startup

__all__ = [
    "Case", "Result", "compare_sides", "compare_threads", "measure_layers", "measure_startup",
    "speed_ups",
]  # fmt: skip
