"""The command line: ``python -m tinyshuffle COMMAND``.

A command reads its options, calls the library and prints. What is heavy is imported inside the
commands, so that ``--help`` answers at once.
"""

from . import (  # noqa: F401 (each adds its commands)
    ablate,
    bench,
    bench_papers,
    compare,
    cost,
    course,
    detect,
    export,
    gradients,
    listing,
    plan,
    predict,
    report,
    search,
    sweep,
    training,
    weights,
)
from .group import cli, main

__all__ = ["cli", "main"]
