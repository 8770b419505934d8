"""How far the score falls when a layer is perturbed or a channel removed: the two sweeps, whatever engine is behind them."""

from facelab.importance.sensitivity.measuring import Reweighting, ablate_channels, measure_layers
