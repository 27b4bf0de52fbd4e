"""A recorded network as teacher: it shows what two of its layers make of every picture."""

import keras
from keras import ops

from helpers.files import RECORDED
from helpers.training.runs import open_run

WEIGHT = 3.0  # of each hint, beside the cross-entropy


class Hints(keras.layers.Layer):
    """Hands on a student's logits (N, C); adds to its loss how unlike its teacher's its layers are.

    After Romero et al., "FitNets" (2014), whose layers differ in width. Here they are alike, so one
    minus the correlation of each channel (N, h, w) is enough: what follows learns scale and mean.
    """

    def call(self, logits, own, shown):
        for one, other in zip(own, shown):
            self.add_loss(WEIGHT * (1 - ops.mean(_standardized(one) * _standardized(other))))
        return logits


def _standardized(maps):
    maps = ops.cast(maps, "float32")
    mean, variance = ops.moments(maps, axes=(0, 1, 2), keepdims=True)
    return (maps - mean) * ops.rsqrt(variance + 1e-5)


def logits(student: keras.Model, pictures, teacher: str):
    """The student's, with the loss of the hints that the recorded teacher gives for `pictures`."""
    teacher = open_run(RECORDED / teacher).network()
    teacher.trainable = False
    own, answer = _stages(student)(pictures)
    shown, _ = _stages(teacher)(pictures, training=False)
    return Hints(dtype="float32")(answer, own, shown)


def _stages(network):
    """A model with two outputs: what comes out of stages 2 and 3, in a list, and the logits."""
    stages = [network.get_layer("stage3_block1_a_norm").input, network.get_layer("features").output]
    return keras.Model(network.input, [stages, network.get_layer("logits").output])
