"""Which libraries can take part."""

from __future__ import annotations

import sys

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


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-compiler-here -O2")
    sentence = "it needs a C++ compiler, and there is no 'no-compiler-here'"
    assert peers.no_compiler() == sentence
    monkeypatch.setenv("CXX", f"'{sys.executable}' -O2")
    assert peers.no_compiler() == ""


def test_a_variant_is_not_written_by_hand():
    assert peers.torch_arguments("shufflenet_v2_x0_5", {}) == {"width": 0.5}
    assert peers.torch_arguments("shufflenet_v2_x0_5", {"se": True}) is None
    assert peers.torch_arguments("shufflenet_v1_x2_0_g3", {}) is None
