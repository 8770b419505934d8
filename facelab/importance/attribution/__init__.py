"""Which pixels, neurons and parts an answer is owed to."""

from facelab.importance.attribution.attributions import METHODS, QUADRATURES, Attribution, attribute, part_ablation
