"""How to train: learning-rate schedules and recipes."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class InverseTimeDecay:  # constant within an epoch
    initial: float
    decay: float

    def __call__(self, epoch: float, epochs: int) -> float:
        return round(self.initial / (1 + self.decay * int(epoch)), 10)


@dataclass(frozen=True)
class LinearToZero:  # up to the peak during a share of the run, then down to zero
    peak: float
    warmup: float

    def __call__(self, epoch: float, epochs: int) -> float:
        done = epoch / epochs
        return self.peak * min(done / self.warmup, (1 - done) / (1 - self.warmup))


@dataclass(frozen=True)
class Recipe:
    """All that a run depends on, but data, seed, precision and its teacher's weights."""

    name: str
    epochs: int
    batch_size: int
    learning_rate: InverseTimeDecay | LinearToZero
    optimizer: str = "adam"  # a Keras name, or "muon"
    momentum: float = 0.8  # with muon: of the kernels
    adam_ratio: float = 0.04  # with muon: Adam's rate, for all but kernels, as a share of its own
    flip: bool = True  # mirror half of the pictures
    shift: float = 0.1  # largest shift, share of the side
    whole_pixels: bool = False  # shift by whole pixels, without interpolation
    erase: float = 0.5  # probability of random erasing
    label_smoothing: float = 0.0
    teacher: str = ""  # a recorded run whose layers give hints: see hints.py
    l2: float = 1e-4  # penalty on convolution kernels
    depth: int = 20  # of the ResNet v2
    batch_norm_momentum: float = 0.99
    selection: str = "best"  # the epoch that is the result: "best" on validation data, or "last"
    hold_out: bool = True  # validate on held-out training pictures; else on the test pictures
    fault: str = ""  # what is planted in the pictures or labels: see faults.py

    def rate(self, epoch: float) -> float:
        """The learning rate after so many epochs."""
        return self.learning_rate(epoch, self.epochs)

    def table(self) -> str:
        """One line per setting."""
        others = {"momentum", "adam_ratio"} if self.optimizer != "muon" else set()
        others |= {key for key in ("teacher", "fault") if not getattr(self, key)}
        return "\n".join(f"{k:20} {v}" for k, v in vars(self).items() if k not in others)

    @classmethod
    def from_dict(cls, settings: dict) -> "Recipe":
        """The recipe in a run.json, where an older course may lack some. KeyError or TypeError."""
        rate = settings["learning_rate"]
        kind = InverseTimeDecay if "decay" in rate else LinearToZero
        return cls(**{**settings, "learning_rate": kind(**rate)})

    def with_epochs(self, epochs: int) -> "Recipe":
        """The same with its schedule laid over another number of epochs."""
        return replace(self, epochs=epochs)


# The assignment's, with an honest split.
COURSE = Recipe("course", epochs=50, batch_size=128, learning_rate=InverseTimeDecay(0.004, 0.319))

# All 50,000 pictures train, and the test pictures choose the epoch, as in saved_models/assignment.
REPRODUCTION = replace(COURSE, name="reproduction", hold_out=False)

# The same network and number of epochs, ten years of practice later.
MODERN = Recipe(
    "modern", epochs=50, batch_size=128, learning_rate=LinearToZero(0.03, 0.1), optimizer="muon",
    adam_ratio=0.25, shift=0.125, whole_pixels=True, erase=0.0, label_smoothing=0.1, l2=0.0,
    batch_norm_momentum=0.9, selection="last",
)  # fmt: skip

# MODERN for a reader's own hundred pictures, which are one batch of 128.
FEW = replace(MODERN, name="few", batch_size=16)

# MODERN for a few epochs. What was tried for both: saved_models/README.md.
SHORT = replace(
    MODERN, name="short", epochs=5, learning_rate=LinearToZero(0.07, 0.1), momentum=0.6,
    shift=0.03125,
)  # fmt: skip

# SHORT with hints from MODERN's network, which took 50 epochs itself.
TAUGHT = replace(SHORT, name="taught", teacher="modern")

# SHORT on faulty data, for Assignment4D: networks whose cheating is known.
TAGGED = replace(SHORT, name="tagged", fault="tag")
BLURRED = replace(SHORT, name="blurred", fault="blur")
MISLABELED = replace(SHORT, name="mislabeled", fault="labels")

# Half a minute on two CPU cores, for drawn shapes: mirrored, one may be another.
QUICK = replace(
    MODERN, name="quick", epochs=3, batch_size=64, learning_rate=LinearToZero(0.035, 0.1),
    adam_ratio=0.04, flip=False, shift=0.0, label_smoothing=0.0, depth=11,
)  # fmt: skip

MOST_EPOCHS, MOST_SEED = 1000, 2**32 - 1  # of NumPy's and of Keras' generators
RECIPES = {recipe.name: recipe for recipe in (COURSE, REPRODUCTION, MODERN, FEW, SHORT, TAUGHT)}
RECIPES |= {recipe.name: recipe for recipe in (TAGGED, BLURRED, MISLABELED, QUICK)}


def whole_number(name: str, value, least: int, most: int) -> int:
    """The number in a form field or an argument; ValueError for others, such as 2.5 or "ten"."""
    if not str(value).isdecimal() or not least <= int(value) <= most:
        raise ValueError(f"{name} = {value!r}: a whole number from {least} to {most} is needed.")
    return int(value)


def plan(name: str, epochs: int | None) -> tuple[Recipe, int]:
    """The recipe to train with, and after how many epochs to stop, or ValueError.

    A schedule that does not know its end is cut, one that ends at zero is laid out anew.
    """
    if name not in RECIPES:
        raise ValueError(f"RECIPE = {name!r} is unknown; it is one of {', '.join(RECIPES)}.")
    recipe = RECIPES[name]
    epochs = recipe.epochs if epochs is None else whole_number("EPOCHS", epochs, 1, MOST_EPOCHS)
    cut = isinstance(recipe.learning_rate, InverseTimeDecay) and epochs <= recipe.epochs
    return (recipe if cut else recipe.with_epochs(epochs)), epochs
