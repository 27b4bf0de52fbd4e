import dataclasses

import keras
import numpy as np
import pytest

from helpers.files import RECORDED
from helpers.training import hints, runs, trainer
from helpers.training.recipes import QUICK, RECIPES, SHORT

TAUGHT = dataclasses.replace(QUICK, name="tiny", teacher="synthetic/quick", epochs=1)


def stages(network, pictures, **options):
    """The last outputs of stages 2 and 3: (N, h, w, C) each."""
    outputs = [network.get_layer(name).output for name in ("stage2_block1_add", "features")]
    return keras.Model(network.input, outputs)(np.float32(pictures), **options)


def correlations(one, other):
    """Of every channel (N, h, w, C) with its like: (C,)."""
    one, other = (np.reshape(maps, (-1, maps.shape[-1])).T for maps in (one, other))
    with np.errstate(invalid="ignore"):  # a channel that says nothing
        return np.nan_to_num([np.corrcoef(a, b)[0, 1] for a, b in zip(one, other)])


@pytest.fixture
def few(scenes):
    return dataclasses.replace(scenes, x_train=scenes.x_train[:64], y_train=scenes.y_train[:64])


def test_the_loss_is_that_of_the_labels_and_how_unlike_the_teachers_the_layers_are(few):
    taught = trainer.Trainer(TAUGHT, seed=0, precision="float32", steps=1)
    alone = trainer.Trainer(dataclasses.replace(TAUGHT, teacher=""), 0, "float32", 1)
    teacher = runs.open_run(RECORDED / "synthetic/quick").network()
    shown, own = (
        stages(teacher, few.x_train),
        stages(taught.in_training, few.x_train, training=True),
    )
    unlike = sum(1 - correlations(a, b).mean() for a, b in zip(own, shown))
    assert 1 < unlike < 2.2
    losses = [each.fit(few, 0)[0] for each in (taught, alone)]
    assert losses[0] - losses[1] == pytest.approx(hints.WEIGHT * unlike, rel=1e-3)
    assert taught.variables.keys() == alone.variables.keys()  # a state holds none of the teacher's


def test_a_student_comes_to_see_what_its_teacher_sees_which_does_not_change(few):
    recipe = dataclasses.replace(TAUGHT, epochs=6)
    taught = trainer.Trainer(recipe, seed=0, precision="float32", steps=1)
    teacher = runs.open_run(RECORDED / "synthetic/quick").network()
    shown = stages(teacher, few.x_train)

    def alike():
        own = stages(taught.in_training, few.x_train, training=True)
        return [correlations(a, b).mean() for a, b in zip(own, shown)]

    before = alike()
    for epoch in range(recipe.epochs):
        taught.fit(few, epoch)
    assert all(after > earlier + 0.05 for after, earlier in zip(alike(), before))
    frozen = [w for w in taught.training_model.weights if "kernel" in w.path and not w.trainable]
    kernels = [w for w in teacher.weights if "kernel" in w.path]
    assert len(frozen) == len(kernels)
    assert all(np.array_equal(a, b) for a, b in zip(frozen, kernels))


def test_a_teacher_of_other_classes_is_refused_before_anything_is_written(scenes, tmp_path):
    other = dataclasses.replace(scenes, class_names=("cat", "dog"), source="own.npz")
    with pytest.raises(ValueError, match="knows other classes than own.npz shows"):
        trainer.train(TAUGHT, other, tmp_path / "run", precision="float32")
    assert not (tmp_path / "run").exists()


def test_taught_is_short_but_for_its_teacher():
    assert dataclasses.replace(RECIPES["taught"], name="short", teacher="") == SHORT
