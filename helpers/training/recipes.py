"""Learning-rate schedules and recipes: all that a run depends on, but data, seed and precision."""

from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class InverseTimeDecay:
    """Learning rate initial / (1 + decay * epoch), epoch from 0, rounded to ten decimals.

    Constant within an epoch, and the same whatever the number of epochs: a run may stop early.
    """

    initial: float
    decay: float

    def __call__(self, epoch: float, epochs: int) -> float:
        return round(self.initial / (1 + self.decay * int(epoch)), 10)


@dataclass(frozen=True)
class LinearToZero:
    """Up to the peak during a share of the run, then linearly to zero at its end.

    Changes with every step, and with the number of epochs: a shorter run is another schedule.
    """

    peak: float
    warmup: float

    def __call__(self, epoch: float, epochs: int) -> float:
        done = epoch / epochs
        return self.peak * min(done / self.warmup, (1 - done) / (1 - self.warmup))


@dataclass(frozen=True)
class Recipe:
    """How to train; immutable, printable as a table."""

    name: str
    epochs: int
    batch_size: int
    learning_rate: InverseTimeDecay | LinearToZero  # of epochs done, as a fraction, and of all
    optimizer: str = "adam"  # a Keras name, or "muon"
    momentum: float = 0.8  # with muon: of the kernels
    adam_ratio: float = 0.04  # with muon: Adam's rate, for all but kernels, as a share of its own
    flip: bool = True  # mirror half of the pictures
    shift: float = 0.1  # largest shift, share of the side
    whole_pixels: bool = False  # shift by whole pixels, without interpolation
    erase: float = 0.5  # probability of random erasing
    label_smoothing: float = 0.0
    l2: float = 1e-4  # penalty on convolution kernels
    depth: int = 20  # of the ResNet v2
    batch_norm_momentum: float = 0.99
    selection: str = "best"  # the epoch that is the result: "best" on validation data, or "last"
    hold_out: bool = True  # validate on held-out training pictures; else on the test pictures

    def rate(self, epoch: float) -> float:
        """The learning rate after so many epochs, the first one beginning at 0."""
        return self.learning_rate(epoch, self.epochs)

    def table(self) -> str:
        """One line per setting."""
        others = () if self.optimizer == "muon" else ("momentum", "adam_ratio")
        return "\n".join(f"{k:20} {v}" for k, v in vars(self).items() if k not in others)

    def as_dict(self) -> dict:
        """Plain values for run.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: dict) -> "Recipe":
        """The recipe in a run.json; what an older course did not set has its default.

        Raises KeyError or TypeError where a setting without default is missing, or one is unknown.
        """
        rate = settings["learning_rate"]
        kind = InverseTimeDecay if "decay" in rate else LinearToZero
        return cls(**{**settings, "learning_rate": kind(**rate)})

    def with_epochs(self, epochs: int) -> "Recipe":
        """The same recipe with its schedule laid over another number of epochs."""
        return replace(self, epochs=epochs)


# The assignment's, with an honest split.
COURSE = Recipe("course", epochs=50, batch_size=128, learning_rate=InverseTimeDecay(0.004, 0.319))

# The same as the assignment did it: all 50,000 pictures train, and the test pictures choose the
# epoch. Only this one compares with the log in saved_models/assignment.
REPRODUCTION = replace(COURSE, name="reproduction", hold_out=False)

# The same network and number of epochs, ten years of practice later: Muon, a schedule that ends at
# zero, whole-pixel shifts instead of erasing, smoothed labels.
MODERN = Recipe(
    "modern", epochs=50, batch_size=128, learning_rate=LinearToZero(0.03, 0.1), optimizer="muon",
    adam_ratio=0.25, shift=0.125, whole_pixels=True, erase=0.0, label_smoothing=0.1, l2=0.0,
    batch_norm_momentum=0.9, selection="last",
)  # fmt: skip

# MODERN for a few epochs: larger steps, a shorter memory, smaller shifts. What was tried for both:
# saved_models/README.md.
SHORT = replace(
    MODERN, name="short", epochs=5, learning_rate=LinearToZero(0.07, 0.1), momentum=0.6,
    shift=0.03125,
)  # fmt: skip

# Half a minute on two CPU cores, for the synthetic stand-in: MODERN with half the depth, and no
# augmentation (a mirrored shape may be another).
QUICK = replace(
    MODERN, name="quick", epochs=3, batch_size=64, learning_rate=LinearToZero(0.035, 0.1),
    adam_ratio=0.04, flip=False, shift=0.0, label_smoothing=0.0, depth=11,
)  # fmt: skip

MOST_EPOCHS = 1000
MOST_SEED = 2**32 - 1  # of NumPy's and of Keras' generators
RECIPES = {recipe.name: recipe for recipe in (COURSE, REPRODUCTION, MODERN, SHORT, QUICK)}


def whole_number(name: str, value, least: int, most: int) -> int:
    """The number in a form field, an environment variable or an argument.

    Raises:
        ValueError: no whole number, such as True, 2.5 or "ten", or one out of range.
    """
    if not str(value).isdecimal() or not least <= int(value) <= most:
        raise ValueError(f"{name} = {value!r}: a whole number from {least} to {most} is needed.")
    return int(value)


def plan(name: str, epochs: int | None) -> tuple[Recipe, int]:
    """The recipe to train with, and after how many epochs to stop.

    A schedule that does not know its end, COURSE's, is cut: fewer epochs are the beginning of the
    same run. One that ends at zero is laid out anew: fewer epochs are a complete shorter run.

    Raises:
        ValueError: an unknown recipe, or epochs that are no whole number from 1 to 1000.
    """
    if name not in RECIPES:
        raise ValueError(f"RECIPE = {name!r} is unknown; it is one of {', '.join(RECIPES)}.")
    recipe = RECIPES[name]
    epochs = recipe.epochs if epochs is None else whole_number("EPOCHS", epochs, 1, MOST_EPOCHS)
    cut = isinstance(recipe.learning_rate, InverseTimeDecay) and epochs <= recipe.epochs
    return (recipe if cut else recipe.with_epochs(epochs)), epochs
