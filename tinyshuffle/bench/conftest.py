"""For the doctests: PyTorch's nets can only be imported where PyTorch is."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["peer_torch.py"]
