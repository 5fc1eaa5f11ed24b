"""For the doctests: PyTorch's nets can only be imported where PyTorch is."""

from __future__ import annotations

from ..files import installed

collect_ignore = [] if installed("torch") else ["peer_torch.py"]
