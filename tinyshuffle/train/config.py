"""What a training run is: every number that its weights depend on, in one frozen record."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import os
import typing
import warnings
from dataclasses import dataclass, field
from typing import Any

from .. import data as data_sets
from .. import models
from ..backend import DEFAULT
from ..errors import TinyshuffleError
from ..files import expand
from ..parallel import get_num_threads
from ..text import shown
from ..values import read
from ..words import parse_duration
from . import limits
from . import recipe as recipes

__all__ = ["Config"]

FOLDER = "a folder"
DEFAULTS: dict[str, dict[str, Any]] = {
    "shapes": {"epochs": 5, "batch_size": 64, "ema": 0.98},
    "cifar10": {"epochs": 12, "batch_size": 128},
    "cifar100": {"epochs": 12, "batch_size": 128},
    "cifar100-coarse": {"epochs": 12, "batch_size": 128},
    FOLDER: {"epochs": 30, "batch_size": 16, "lr": 0.05},
}
"""Where the data sets differ: shapes has few images, so smaller batches for enough steps, which
leave so much noise in the weights that their average is tested. A folder of one's own has fewer
still."""

LEARNING_RATES = {"sgd": 0.1, "adam": 0.003, "muon": 0.1}
"""With muon, of what is not a pointwise weight, which SGD moves."""

MUON_LR = 0.05

RISES = {"shapes": 0.4}
"""Parts of a one-cycle run in which the learning rate rises where the schedule's own is too short:
shapes tell a net nothing for its first hundred steps, and large ones would then be all noise."""


@dataclass(frozen=True)
class Config:
    """The configuration of a run. docs/training.md says what each part is good for.

    Attributes
    ----------
    model : str
        A registered name.
    data : str
        A registered name, or the path of a folder of pictures (:mod:`tinyshuffle.data.folder`).
    side : int
        Of a folder's pictures, to which they are scaled; None: 64.
    strict : bool
        Refuse a folder with files that are no pictures, which are left out otherwise.
    validate : int
        Hold out this many of the training images, and test with them instead of the test images
        (:func:`tinyshuffle.data.hold_out`); None: none.
    stem : str
        How much the net's first layers make the images smaller: ``cifar``, as for 32 pixels, or
        ``imagenet``, as for 224, which files of weights are for; None: cifar.
    init : str
        A run's directory, or a file of weights, to begin with; None: random weights.
    freeze : str
        What is held still of them: ``stem``, ``stages`` or ``all-but-head``; None: nothing.
    unfreeze_at : int
        Epochs after which all is trained; None: never.
    whiten : bool
        Begin the first convolution as a whitening of the images' patches
        (:mod:`tinyshuffle.train.whiten`); None: False.
    body_lr : float
        The part of the learning rate that all layers but the last have; None: all of it.
    variant : dict
        What else :func:`tinyshuffle.models.create` shall be told, such as ``{"se": True}``.
    epochs : int
    time_budget : str
        Such as ``"45m"``: train for as many epochs as fit into it, instead of ``epochs``.
    test_every : int
        Epochs from one test to the next; the one that ends the run is always tested. None: 1.
    early_stop : int
        Stop when the best test accuracy is this many epochs old; 0 never does.
    batch_size : int
    optimizer : str
        ``sgd`` (with Nesterov momentum), ``adam``, or ``muon`` for the pointwise convolutions'
        weights and sgd for all others.
    lr : float
        Peak learning rate.
    muon_lr : float
        Peak learning rate of the weights that muon moves; None: 0.05.
    bias_lr : float
        How many times the learning rate biases and batch norm's shifts have; None: once.
    momentum, weight_decay : float
    schedule : str
    warmup : float
        Epochs of warm-up; None leaves it to the schedule.
    label_smoothing : float
    ema : float
        Decay, a step, of the running average of the weights that is tested and kept; 0: none.
    alternate : bool
        Mirror each training image in every other epoch; None: False, at random.
    cutout : int
        Side of the square that is blanked out in each training image, in pixels; 0: none.
    mixup : float
        α of the Beta distribution by which two images are blended; 0: none.
    sizes : tuple of int
        Sides to which the images are scaled, each for an equal share of the epochs; none: as they
        are.
    seed : int
        Of the weights, the order of the images and their augmentation.
    threads : int
        By default all. Sums are added in an order that depends on it, so the last bits do too.
    sync_bn : bool
        Of several processes (:mod:`tinyshuffle.ranks`): normalise with the statistics of the whole
        batch; False: each with those of its own images. None: True.
    backend : str
        ``numba``, or ``numpy``: the default where numba is not installed.
    data_dir : str
        Where the data set's files are, if not in the usual place.

    Raises
    ------
    TinyshuffleError
        Names the field, its value and what it may be.
    """

    model: str = "shufflenet_v2_x0_5"
    variant: dict[str, Any] = field(default_factory=dict)
    data: str = "shapes"
    side: int | None = None
    strict: bool | None = None
    validate: int | None = None
    stem: str | None = None
    init: str | None = None
    freeze: str | None = None
    unfreeze_at: int | None = None
    whiten: bool | None = None
    body_lr: float | None = None
    epochs: int = DEFAULTS["shapes"]["epochs"]
    time_budget: str | None = None
    test_every: int | None = None
    early_stop: int = 0
    batch_size: int = DEFAULTS["shapes"]["batch_size"]
    optimizer: str = "sgd"
    lr: float = LEARNING_RATES["sgd"]
    muon_lr: float | None = None
    bias_lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one-cycle"
    warmup: float | None = None
    label_smoothing: float = 0.1
    ema: float = 0.0
    alternate: bool | None = None
    cutout: int = 0
    mixup: float = 0.0
    sizes: tuple[int, ...] = ()
    seed: int = 0
    threads: int = field(default_factory=get_num_threads)
    sync_bn: bool | None = None
    backend: str = DEFAULT
    data_dir: str | None = None

    @classmethod
    def make(cls, recipe: str | None = None, **given: Any) -> Config:
        """Build one from a recipe and what was given, with defaults that suit data and optimiser.

        A batch size that is given without a learning rate scales the one that was meant for the
        other batch size: in proportion for SGD (Goyal et al. 2017), with the root for Adam.

        Parameters
        ----------
        recipe : str, optional
            One of :func:`tinyshuffle.train.recipe.names`, or the path of a ``.toml`` file.
        **given
            Fields, which override the recipe's. With another model, or with a variant, nothing of
            the recipe's variant is left, and a warning says so.

        Raises
        ------
        TinyshuffleError
            If a field cannot be, contradicts another that came the same way (``epochs`` and
            ``time_budget``), or has no effect on what it was given with.

        >>> Config.make(data="cifar10", batch_size=256).lr
        0.2
        >>> Config.make("lecture", epochs=3).schedule
        'one-cycle'
        """
        limits.check_length(given)
        base = {} if recipe is None else recipes.load(recipe)
        # the command line and Python give what is not yet of a field's type, or may not be
        given = {name: _typed(name, value) for name, value in given.items()}
        named = given.get("data", base.get("data", cls.data))
        kind = FOLDER if data_sets.is_folder(named) else named
        fields = {**(DEFAULTS.get(kind, {}) if isinstance(kind, str) else {}), **base}
        try:
            limits.check_length(base)
            meant = cls.from_dict(fields)  # a recipe that is wrong by itself says so
        except TinyshuffleError as error:
            raise TinyshuffleError(f"recipe {recipe}: {error}") from error
        other = given.get("model", meant.model) != meant.model
        if other:
            fields.pop("variant", None)  # it was meant for the recipe's model
        optimizer = given.get("optimizer", meant.optimizer)
        if optimizer == "adam" and given.get("momentum") is not None:
            raise TinyshuffleError(
                f"momentum={given['momentum']} has no effect with adam, which has moments of its "
                "own: leave it out, or give the optimizer sgd"
            )
        instead = ", or give the data whose files are there (--data cifar10)"
        check_data_dir(named, given.get("data_dir"), instead)
        lr = meant.lr
        another = optimizer != meant.optimizer and "adam" in (optimizer, meant.optimizer)
        if optimizer in LEARNING_RATES and ("lr" not in fields or another):
            lr = LEARNING_RATES[optimizer]
        if 1 <= given.get("batch_size", 0) <= limits.MOST_IMAGES:  # else it is refused below
            ratio = given["batch_size"] / meant.batch_size
            lr *= math.sqrt(ratio) if optimizer == "adam" else ratio
        if "epochs" in given:
            fields.pop("time_budget", None)
        if given.get("time_budget", fields.get("time_budget")) is not None:
            fields.pop("epochs", None)  # of the recipe, or of these data
        config = cls.from_dict({**fields, "lr": lr, **given})
        if lost := [key for key in meant.variant if key not in config.variant]:
            cause = (
                f"it is for {meant.model}" if other else "the one that was given takes its place"
            )
            warnings.warn(
                f"nothing is left of the variant of the recipe {recipe} ({', '.join(lost)}), as "
                f"{cause}: what {config.model} shall be told beside its name has to be given",
                stacklevel=2,
            )
        own = config.schedule != "one-cycle" or config.warmup is not None or config.time_budget
        if named not in RISES or own:
            return config
        return dataclasses.replace(config, warmup=RISES[named] * config.epochs)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Config:
        """Build one from JSON or TOML; an unknown field is an error."""
        known = [f.name for f in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise TinyshuffleError(
                    f"{shown(name)} is not a field of a training configuration{hint}: "
                    f"the fields are {', '.join(known)}"
                )
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return {**dataclasses.asdict(self), "sizes": list(self.sizes)}

    def to_toml(self) -> str:
        """Return the fields as a recipe; those that are not set, or not used, are left out.

        >>> print(Config(variant={"se": True}, sizes=(24, 32), threads=2).to_toml())
        model = "shufflenet_v2_x0_5"
        variant = { se = true }
        data = "shapes"
        epochs = 5
        early_stop = 0
        batch_size = 64
        optimizer = "sgd"
        lr = 0.1
        momentum = 0.9
        weight_decay = 0.0005
        schedule = "one-cycle"
        label_smoothing = 0.1
        ema = 0.0
        cutout = 0
        mixup = 0.0
        sizes = [24, 32]
        seed = 0
        threads = 2
        backend = "numba"
        """
        fields = self.to_dict()
        if self.time_budget is not None:
            del fields["epochs"]
        lines = (f"{name} = {_toml(value)}" for name, value in fields.items() if value is not None)
        return "\n".join(lines)

    @property
    def measured(self) -> str:
        """What a run's log calls test accuracy, in words."""
        return measured(self.validate)

    @property
    def seconds(self) -> float:
        """The time budget."""
        return math.inf if self.time_budget is None else parse_duration(self.time_budget)

    def size(self, epoch: int, epochs: int, side: int) -> int:
        """Return the side of the images in one of ``epochs`` epochs; ``side`` is what they have.

        Where the shares do not come out even, the later sizes have more.

        >>> [Config(sizes=(16, 24, 32)).size(e, 5, 32) for e in range(5)]
        [16, 24, 24, 32, 32]
        """
        if not self.sizes:
            return side
        return self.sizes[-1 - (epochs - 1 - epoch) * len(self.sizes) // epochs]

    @property
    def test_interval(self) -> int:
        """Epochs from one test to the next."""
        return 1 if self.test_every is None else self.test_every

    def shares(self, epochs: int, side: int, done: int = 0) -> dict[int, tuple[int, int]]:
        """Return for each size how many of ``epochs`` epochs, behind the first ``done``, have it.

        And how many of these are tested.

        >>> Config(sizes=(16, 24, 32), test_every=3).shares(5, 32)
        {32: (2, 1), 24: (2, 1), 16: (1, 0)}
        """
        sizes = self.sizes or (side,)
        found: dict[int, tuple[int, int]] = {}
        for i, size in enumerate(reversed(sizes)):  # -(-a // b) rounds up
            # counted from the end
            first, after = (min(epochs - done, -(-j * epochs // len(sizes))) for j in (i, i + 1))
            tests = (epochs - first) // self.test_interval - (epochs - after) // self.test_interval
            if first == 0 < after and epochs % self.test_interval:
                tests += 1  # the last epoch
            count, tested = found.get(size, (0, 0))
            found[size] = count + after - first, tested + tests
        return found

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            object.__setattr__(self, f.name, _typed(f.name, getattr(self, f.name)))
        if data_sets.is_folder(self.data):
            object.__setattr__(self, "data", data_sets.folder.located(self.data))
        if self.variant:
            typed = models.read_variant(self.model, self.variant)
            object.__setattr__(self, "variant", typed)
        if self.data_dir is not None:
            object.__setattr__(self, "data_dir", str(expand(self.data_dir, "data_dir")))
        if self.init is not None:
            object.__setattr__(self, "init", os.path.abspath(expand(self.init, "init")))
        limits.check(self)


def measured(held: int | None) -> str:
    """What the test accuracy in a log is, in words, of a run that held out so many images."""
    return "test accuracy" if held is None else f"accuracy on {held:,} training images held out"


def load_data(config: Config) -> tuple[data_sets.Dataset, data_sets.Dataset]:
    """Return what a configuration trains on, and what it tests with while it does."""
    if data_sets.is_folder(config.data):
        train_set, test_set = data_sets.load(
            config.data, config.data_dir, side=config.side, strict=bool(config.strict)
        )
    else:
        train_set, test_set = data_sets.load(config.data, root=config.data_dir)
    if config.validate is not None:
        return data_sets.hold_out(train_set, config.validate)
    return train_set, test_set


def check_data_dir(data: str, data_dir: str | None, instead: str = "") -> None:
    """Refuse a directory that was given for a data set without files."""
    if data == "shapes" and data_dir is not None:
        raise TinyshuffleError(
            f"data_dir={shown(data_dir)} has no effect with shapes, which are built in: leave it "
            f"out{instead}"
        )


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        items = ", ".join(f"{key} = {_toml(v)}" for key, v in value.items())
        return f"{{ {items} }}" if items else "{}"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # which TOML wants


def _typed(name: str, value: Any) -> Any:
    """Return the value of a field as its annotation says; of what is no field, as it is."""
    kind = _kinds().get(name)
    return value if kind is None else read(name, value, kind)


@functools.cache
def _kinds() -> dict[str, Any]:
    return typing.get_type_hints(Config)
