"""Static figures: arrays in, figure out.

`show_...` draws images, `plot_...` draws numbers, `draw_...` draws how a network is wired.
"""

from facelab.pictures.attributions import Account, show_attribution
from facelab.pictures.cascade import plot_decisions, show_stages
from facelab.pictures.curves import plot_bars, plot_cumulative_error, plot_history
from facelab.pictures.equivariance import show_arrows
from facelab.pictures.faces import show_faces, show_truth
from facelab.pictures.gaze import plot_lost_heads, plot_members, show_gazes
from facelab.pictures.importance import draw_assessment, draw_bit_flips, plot_agreement, plot_ranks, plot_sensitivity
from facelab.pictures.maps import plot_matrix, show_maps, show_strip
from facelab.pictures.red import draw_merging, show_kernels
from facelab.pictures.search_tree import plot_search_tree
from facelab.pictures.style import Picture
from facelab.pictures.sweeps import binned_means, plot_against
from facelab.pictures.trees import plot_routing, plot_tree
from facelab.pictures.wiring import draw_acdc, draw_decafa, draw_gated_stage, draw_rcn, draw_regressor_ensemble, draw_sumnet

__all__ = [
    "Account",
    "Picture",
    "binned_means",
    "draw_acdc",
    "draw_assessment",
    "draw_bit_flips",
    "draw_decafa",
    "draw_gated_stage",
    "draw_merging",
    "draw_rcn",
    "draw_regressor_ensemble",
    "draw_sumnet",
    "plot_against",
    "plot_agreement",
    "plot_bars",
    "plot_cumulative_error",
    "plot_decisions",
    "plot_history",
    "plot_lost_heads",
    "plot_matrix",
    "plot_members",
    "plot_ranks",
    "plot_routing",
    "plot_search_tree",
    "plot_sensitivity",
    "plot_tree",
    "show_arrows",
    "show_attribution",
    "show_faces",
    "show_gazes",
    "show_kernels",
    "show_maps",
    "show_stages",
    "show_strip",
    "show_truth",
]
