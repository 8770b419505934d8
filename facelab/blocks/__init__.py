"""Layers, read-outs, losses and augmentation that more than one method uses."""

from facelab.blocks.augmentation import augment
from facelab.blocks.heatmaps import argmax_position, expected_position, heatmap_nll, one_hot_maps, pixel_index, spatial_softmax
from facelab.blocks.landmarks import ConvRegressor, convert_landmarks, interocular_distance, landmark_loss
from facelab.blocks.light import standardise
from facelab.blocks.parameters import count_parameters, matched_width, seeded
from facelab.blocks.unet import UNet

__all__ = [
    "ConvRegressor",
    "UNet",
    "argmax_position",
    "augment",
    "convert_landmarks",
    "count_parameters",
    "expected_position",
    "heatmap_nll",
    "interocular_distance",
    "landmark_loss",
    "matched_width",
    "one_hot_maps",
    "pixel_index",
    "seeded",
    "spatial_softmax",
    "standardise",
]
