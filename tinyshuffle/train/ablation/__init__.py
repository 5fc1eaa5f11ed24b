"""The papers' comparisons, trained at CIFAR's scale.

Every arm of a comparison has as many multiply-adds as the others, as in the papers: the widths are
solved for with the cost model. Each arm is trained with several seeds. A training is a run
directory of its own, so that an ablation that was stopped continues where it was.
"""

from .catalogue import ABLATIONS, Ablation, Arm
from .report import PUBLISHED, Report
from .run import ablate
from .widths import Solved, solve

__all__ = ["ABLATIONS", "PUBLISHED", "Ablation", "Arm", "Report", "Solved", "ablate", "solve"]
