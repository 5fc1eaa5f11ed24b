"""The papers' nets on larger images: V1, Table 8, and V2, Appendix Table 1 (a)."""

from __future__ import annotations

from .nets import Subject

__all__ = ["RESOLUTIONS"]

# V1, Table 8: milliseconds on a Snapdragon 820 at 480x640 and 720x1280.
_V1 = {
    "shufflenet_v1_x0_5_g3": (87.4, 260.1),
    "shufflenet_v1_x1_0_g3": (222.2, 684.5),
    "shufflenet_v1_x2_0_g3": (617.0, 1857.6),
    "alexnet": (1156.7, 3633.9),
    "mobilenet_v1_x1_0": (612.0, 1879.2),
}

# V2, Appendix Table 1 (a): images a second on a GTX 1080Ti and a Snapdragon 810, for nets of 40,
# 140, 300 and 500 M multiply-adds at 224x224. On the GPU the smallest nets had batches of 8 at
# 320x320: left out. Its Xceptions are not published in enough detail. Which MobileNets it took is
# not said: those of Table 8 at 224x224 are here.
_FAMILIES = {
    "v2": [f"shufflenet_v2_x{width}" for width in ("0_5", "1_0", "1_5", "2_0")],
    "v1": [f"shufflenet_v1_x{width}_g3" for width in ("0_5", "1_0", "1_5", "2_0")],
    "mobilenet v2": ["mobilenet_v2_x0_15", "mobilenet_v2_x0_6", "mobilenet_v2",
                     "mobilenet_v2_x1_4"],
}  # fmt: skip
_V2 = {
    (320, 320): {
        "v2": ((0, 525, 474, 422), (28.1, 12.5, 6.1, 3.4)),
        "v1": ((0, 414, 344, 275), (27.2, 11.4, 5.1, 3.1)),
        "mobilenet v2": ((0, 460, 389, 335), (11.4, 6.4, 4.6, 2.7)),
    },
    (480, 640): {
        "v2": ((424, 394, 297, 250), (9.3, 4.0, 1.9, 1.1)),
        "v1": ((396, 269, 198, 156), (8.0, 3.7, 1.6, 1.0)),
        "mobilenet v2": ((338, 248, 208, 165), (3.8, 2.0, 1.4, 0.8)),
    },
    (720, 1080): {
        "v2": ((248, 197, 141, 115), (3.5, 1.5, 0.7, 0.4)),
        "v1": ((203, 131, 96, 77), (2.9, 1.4, 0.4, 0.3)),
        "mobilenet v2": ((159, 117, 99, 78), (1.4, 0.7, 0.3, 0.3)),
    },
}


def _subjects() -> list[Subject]:
    published: dict[tuple[str, tuple[int, int]], dict[str, float]] = {}
    for size, families in _V2.items():
        for family, (gpu, arm) in families.items():
            for model, on_gpu, on_arm in zip(_FAMILIES[family], gpu, arm, strict=True):
                columns = published.setdefault((model, size), {})
                if on_gpu:
                    columns["V2 GPU"] = 1 / on_gpu
                columns["V2 ARM"] = 1 / on_arm
    for model, milliseconds in _V1.items():
        for size, ms in zip(((480, 640), (720, 1280)), milliseconds, strict=True):
            published.setdefault((model, size), {})["V1 ARM"] = ms / 1e3
    return [
        Subject(f"{model} at {size[0]}x{size[1]}", size, columns, model)
        for (model, size), columns in published.items()
    ]


RESOLUTIONS = _subjects()
