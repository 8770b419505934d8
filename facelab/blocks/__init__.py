"""Layers, read-outs, losses and augmentation that more than one method uses."""

from facelab.blocks.augmentation import Warp, augment, draw_warp, two_views
from facelab.blocks.cascade import TransferLayers, increasing_weights, merge_attention, run_cascade
from facelab.blocks.descriptors import angles, distances, gradient_histograms, triangulation
from facelab.blocks.digests import digest, digest_of_network
from facelab.blocks.experts import ExpertLinear, ExpertMLP, Gate, PatchExperts, mix
from facelab.blocks.heatmaps import argmax_position, expected_position, heatmap_nll, one_hot_maps, pixel_index, spatial_softmax
from facelab.blocks.landmarks import ConvRegressor, convert_landmarks, interocular_distance, landmark_loss
from facelab.blocks.light import standardise
from facelab.blocks.parameters import count_parameters, matched_width, seeded, shake
from facelab.blocks.patches import cut_patches
from facelab.blocks.shape_model import ShapeModel
from facelab.blocks.trees import TreeGate, hard_leaf, leaf_probabilities, log_leaf_probabilities, straight_through_leaves
from facelab.blocks.unet import UNet

__all__ = [
    "ConvRegressor",
    "ExpertLinear",
    "ExpertMLP",
    "Gate",
    "PatchExperts",
    "ShapeModel",
    "TransferLayers",
    "TreeGate",
    "UNet",
    "Warp",
    "angles",
    "argmax_position",
    "augment",
    "convert_landmarks",
    "count_parameters",
    "cut_patches",
    "digest",
    "digest_of_network",
    "distances",
    "draw_warp",
    "expected_position",
    "gradient_histograms",
    "hard_leaf",
    "heatmap_nll",
    "increasing_weights",
    "interocular_distance",
    "landmark_loss",
    "leaf_probabilities",
    "log_leaf_probabilities",
    "matched_width",
    "merge_attention",
    "mix",
    "one_hot_maps",
    "pixel_index",
    "run_cascade",
    "seeded",
    "shake",
    "spatial_softmax",
    "standardise",
    "straight_through_leaves",
    "triangulation",
    "two_views",
]
