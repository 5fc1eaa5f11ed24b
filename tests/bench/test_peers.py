"""Which libraries can take part."""

from __future__ import annotations

import pytest

import tinyshuffle as ts
from tinyshuffle.bench import peers


def test_a_missing_peer_is_one_sentence(monkeypatch):
    monkeypatch.setattr(peers, "installed", lambda name: name != "torch")
    with pytest.raises(ts.TinyshuffleError, match="^PyTorch is not installed; pip install torch, "):
        peers.check_peer("torch", "step")
    with pytest.raises(ts.TinyshuffleError, match="^PyTorch, which writes .* --peer onnxruntime$"):
        peers.check_peer("onnxruntime", "inference")
    peers.check_peer("onnxruntime", "inference", by_hand=False)
