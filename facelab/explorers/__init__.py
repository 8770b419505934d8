"""Interactive views: controls, a pure function of everything shown, a picture.

Those that bring what they show (a world, a method, photographs) are imported from their own modules: `facelab.explorers.world`,
`.recombinator`, `.photo`.
"""

from facelab.explorers.attention import AttentionExplorer, attention_view, stages_from_maps
from facelab.explorers.explorer import Explorer, View, stops

__all__ = ["AttentionExplorer", "Explorer", "View", "attention_view", "stages_from_maps", "stops"]
