"""Every figure that tinyshuffle draws.

Each function returns a matplotlib ``Figure`` that belongs to the caller: nothing is registered
with pyplot, and no style is set for anybody else. The colours are those of Okabe and Ito, which
stay apart under every common form of colour blindness; lines differ in dash as well.
"""

from .batch_norm import channel_histograms, error_against_batch, variance_estimates
from .bench import against_the_clock, prediction, roof, roofline
from .cost import accuracy_against_cost, accuracy_map, cost
from .detection import (
    LOSSES,
    boxes,
    detection_curves,
    precision_recall,
    receptive_fields,
)
from .guidelines import foretold, guideline, memory_parts, search_front, time_against_memory
from .kernels import curves, filters, speed_bars, tile_choices
from .notebook import show, slider, table
from .pictures import feature_maps
from .plan import memory
from .reuse import channel_ages, feature_reuse
from .shares import channel_bars, cost_over_groups, kind_bars, kind_shares, layer_bars
from .style import COLOURS, KIND_STYLES, STYLES
from .teaching import (
    connectivity,
    dataflow,
    error_against_eps,
    number_grid,
    reach,
    sliding_window,
)
from .training import ablation, compare, confusion, learning_curves, samples, worst_images
from .units import unit

__all__ = [
    "COLOURS", "KIND_STYLES", "LOSSES", "STYLES", "ablation", "accuracy_against_cost",
    "accuracy_map", "against_the_clock", "boxes", "channel_ages", "channel_bars",
    "channel_histograms", "compare", "confusion", "connectivity", "cost", "cost_over_groups",
    "curves", "dataflow", "detection_curves", "error_against_batch", "error_against_eps",
    "feature_maps", "feature_reuse", "filters", "foretold", "guideline", "kind_bars",
    "kind_shares", "layer_bars", "learning_curves", "memory", "memory_parts", "number_grid",
    "precision_recall", "prediction", "reach", "receptive_fields", "roof", "roofline",
    "samples", "search_front", "show", "slider", "sliding_window", "speed_bars", "table",
    "tile_choices", "time_against_memory", "unit", "variance_estimates", "worst_images",
]  # fmt: skip
