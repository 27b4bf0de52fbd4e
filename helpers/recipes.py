"""Learning-rate schedules and recipes: all that a run depends on, but data and seed."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class InverseTimeDecay:
    """Learning rate initial / (1 + decay * epoch), epoch from 0, rounded to ten decimals."""

    initial: float
    decay: float

    def __call__(self, epoch: int) -> float:
        return round(self.initial / (1 + self.decay * epoch), 10)


@dataclass(frozen=True)
class Recipe:
    """How to train; immutable, printable as a table."""

    name: str
    epochs: int
    batch_size: int
    learning_rate: InverseTimeDecay  # or any function of the epoch, counted from 0
    optimizer: str = "adam"  # a Keras name
    flip: bool = True  # mirror half of the pictures
    shift: float = 0.1  # largest shift, share of the side
    erase: float = 0.5  # probability of random erasing
    l2: float = 1e-4  # penalty on convolution kernels
    depth: int = 20  # of the ResNet v2
    batch_norm_momentum: float = 0.99

    def table(self) -> str:
        """One line per setting."""
        return "\n".join(f"{name:20} {value}" for name, value in vars(self).items())

    def as_dict(self) -> dict:
        """Plain values for run.json."""
        return asdict(self)


# The assignment's: its log, epoch by epoch, in saved_models/assignment/training_log.csv.
COURSE = Recipe("course", epochs=50, batch_size=128, learning_rate=InverseTimeDecay(0.004, 0.319))

# A minute on two CPU cores, for the synthetic stand-in: half the depth, small batches for many
# steps, statistics that settle soon, no augmentation (an erased or mirrored shape may be another).
QUICK = Recipe(
    "quick", epochs=4, batch_size=16, learning_rate=InverseTimeDecay(0.004, 1.5),
    flip=False, shift=0.0, erase=0.0, depth=11, batch_norm_momentum=0.9,
)  # fmt: skip
