"""A recorded network as teacher: it shows what two of its layers make of every picture."""

import keras
from keras import ops

from helpers.files import RECORDED
from helpers.training.runs import open_run

WEIGHT = 3.0  # of the hints, beside the cross-entropy


class Hints(keras.layers.Layer):
    """Hands on a student's logits (N, C); adds to its loss how unlike its teacher's its layers are.

    Hints are those of Romero et al., "FitNets" (2014). There the layers differ in width and are
    compared through one more layer; here they are alike, and one minus the correlation of each
    channel (N, h, w) with the teacher's is enough: batch normalization hides scale and mean.
    """

    def call(self, logits, own, shown):
        for one, other in zip(own, shown):
            alike = ops.mean(_standardized(one) * _standardized(other))
            self.add_loss(WEIGHT * (1 - alike))
        return logits


def _standardized(maps):
    maps = ops.cast(maps, "float32")
    mean, variance = ops.moments(maps, axes=(0, 1, 2), keepdims=True)
    return (maps - mean) * ops.rsqrt(variance + 1e-5)


def logits(student: keras.Model, pictures, teacher: str):
    """The student's, with the loss of the hints that the recorded teacher gives for `pictures`."""
    teacher = open_run(RECORDED / teacher).network()
    teacher.trainable = False
    own, its_logits = _shown(student)(pictures)
    shown, _ = _shown(teacher)(pictures, training=False)
    return Hints(dtype="float32")(its_logits, own, shown)


def _shown(network):
    """A model with two outputs: what comes out of stages 2 and 3, in a list, and the logits."""
    stages = [network.get_layer("stage3_block1_a_norm").input, network.get_layer("features").output]
    return keras.Model(network.input, [stages, network.get_layer("logits").output])
