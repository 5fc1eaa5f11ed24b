"""Time V2 0.5x forward and backward for 8 images in a Python that is WebAssembly.

    cd tests/notebooks
    node wasm.mjs RUNTIME wasm_step.py ../../tinyshuffle=/library/tinyshuffle

RUNTIME is as in ``test_wasm.py``: .../@jupyterlite/xeus-python-kernel/static.
"""

import sys
import time

sys.path.insert(0, "/library")
import numpy as np

import tinyshuffle as ts

net = ts.models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar")
loss = ts.nn.CrossEntropyLoss()
x = np.random.default_rng(0).standard_normal((8, 32, 32, 3)).astype(np.float32)
seconds = []
for _ in range(5):
    started = time.perf_counter()
    loss(net(x), np.arange(8))
    net.backward(loss.backward())
    net.zero_grad()
    seconds.append(time.perf_counter() - started)
print(f"V2 0.5x, forward and backward, 8 images of 32x32, NumPy {np.__version__} on "
      f"{sys.platform}: first {seconds[0]:.2f} s, then {np.median(seconds[1:]):.2f} s")
