"""Interactive views: controls, a pure function of everything shown, a picture.

First the generic ones (maps, neighbours, curves): an own explorer is a `draw` function and a dictionary of controls for `Explorer`.
"""

from typing import Any

from facelab.explorers.attention import AttentionExplorer, attention_view, stages_from_maps
from facelab.explorers.attribution import AttributionExplorer
from facelab.explorers.cascade import CascadeExplorer
from facelab.explorers.compression import CompressionExplorer
from facelab.explorers.curves import CurveExplorer
from facelab.explorers.equivariance import EquivarianceExplorer
from facelab.explorers.explorer import Explorer, View, stops
from facelab.explorers.gating_tree import GatingTreeExplorer, face_sweep
from facelab.explorers.gaze import GazeExplorer
from facelab.explorers.jlcm import CodewordExplorer
from facelab.explorers.label_noise import LabelNoiseExplorer, Story
from facelab.explorers.layer_importance import LayerImportanceExplorer
from facelab.explorers.lep import OcclusionExplorer
from facelab.explorers.maps import MapExplorer
from facelab.explorers.neighbours import NeighbourExplorer
from facelab.explorers.neuron_path import NeuronPathExplorer
from facelab.explorers.photo import PhotoExplorer
from facelab.explorers.pose_gate import PoseGateExplorer
from facelab.explorers.powerquant import ExponentExplorer
from facelab.explorers.recombinator import RecombinatorExplorer
from facelab.explorers.red import BandwidthExplorer
from facelab.explorers.search_tree import SearchTreeExplorer
from facelab.explorers.smoothing import SmoothingExplorer
from facelab.explorers.splitting import SplitExplorer
from facelab.explorers.stress import StressExplorer
from facelab.explorers.table import TableExplorer
from facelab.explorers.ternary import TernaryExplorer
from facelab.explorers.thin import SwapExplorer

__all__ = [
    "AttentionExplorer",
    "AttributionExplorer",
    "BandwidthExplorer",
    "CascadeExplorer",
    "CodewordExplorer",
    "CompressionExplorer",
    "CurveExplorer",
    "EquivarianceExplorer",
    "Explorer",
    "ExponentExplorer",
    "GatingTreeExplorer",
    "GazeExplorer",
    "LabelNoiseExplorer",
    "LayerImportanceExplorer",
    "MapExplorer",
    "NeighbourExplorer",
    "NeuronPathExplorer",
    "OcclusionExplorer",
    "PhotoExplorer",
    "PoseGateExplorer",
    "RecombinatorExplorer",
    "SearchTreeExplorer",
    "SmoothingExplorer",
    "SplitExplorer",
    "Story",
    "StressExplorer",
    "SwapExplorer",
    "TableExplorer",
    "TernaryExplorer",
    "View",
    "WorldExplorer",
    "attention_view",
    "face_sweep",
    "stages_from_maps",
    "stops",
]


def __getattr__(name: str) -> Any:
    if name == "WorldExplorer":  # only when asked for: its world takes two seconds to import
        from facelab.explorers.world import WorldExplorer

        return WorldExplorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
