"""Expressions as action-unit prototypes with variation, and what they mean on the valence-arousal plane.

Prototypes follow the emotion tables of the Facial Action Coding System (Ekman, Friesen and Hager, 2002, EMFACS).
"""

import numpy as np
from jaxtyping import Float

from facelab.worlds.faces.factors import ACTION_UNITS, EXPRESSIONS
from facelab.worlds.faces.randomness import hashed_table

# action unit -> intensity at full strength; a unit in brackets of _OPTIONAL appears in half of the faces
PROTOTYPES: dict[str, dict[int, float]] = {
    "neutral": {},
    "happiness": {6: 0.8, 12: 0.95, 25: 0.6},
    "sadness": {1: 0.8, 4: 0.6, 15: 0.9, 17: 0.5},
    "surprise": {1: 0.9, 2: 0.9, 5: 0.8, 25: 0.8, 26: 0.9},
    "fear": {1: 0.8, 2: 0.5, 4: 0.6, 5: 0.9, 7: 0.3, 20: 0.8, 25: 0.6, 26: 0.4},
    "disgust": {4: 0.4, 7: 0.4, 9: 0.95, 10: 0.8, 17: 0.4, 25: 0.2},
    "anger": {4: 0.95, 5: 0.5, 7: 0.7, 23: 0.8, 24: 0.4, 17: 0.3},
}
_OPTIONAL = {
    "happiness": {26: 0.35, 14: 0.3, 7: 0.3},
    "sadness": {6: 0.2, 14: 0.2},
    "disgust": {6: 0.3, 26: 0.2},
    "anger": {9: 0.3, 25: 0.5, 10: 0.4},
}
AFFECT = {
    "neutral": (0.0, 0.0),
    "happiness": (0.85, 0.45),
    "sadness": (-0.7, -0.35),
    "surprise": (0.15, 0.85),
    "fear": (-0.65, 0.75),
    "disgust": (-0.7, 0.3),
    "anger": (-0.6, 0.7),
}
"""(valence, arousal) of each prototype at full strength (after Russell's circumplex)."""

_MATRIX = np.array([[PROTOTYPES[e].get(u, 0.0) for u in ACTION_UNITS] for e in EXPRESSIONS])
_EXTRA = np.array([[_OPTIONAL.get(e, {}).get(u, 0.0) for u in ACTION_UNITS] for e in EXPRESSIONS])


def draw_action_units(
    seed: np.ndarray, index: np.ndarray, expression: np.ndarray, intensity: np.ndarray, talking: np.ndarray
) -> dict[str, Float[np.ndarray, " n"]]:
    """Intensities of all units: prototype x intensity, each unit varied by +-30 %, optional units in half of the faces.

    Beside the expression there is a little chance activity, and `talking` opens the mouth (units 25 and 26).
    """
    code = expression.astype(int)
    u, v, chance, amount = hashed_table(seed, index, [f"au_{unit}" for unit in ACTION_UNITS], 4)
    units = {}
    for k, unit in enumerate(ACTION_UNITS):
        value = _MATRIX[code, k] * (0.7 + 0.6 * u[k]) + _EXTRA[code, k] * (v[k] < 0.5) * 2 * u[k]
        stray = np.where(chance[k] < 0.12, 0.35 * amount[k], 0.0)
        speech = {25: 0.7, 26: 0.6}.get(unit, 0.0) * talking
        units[f"au_{unit}"] = np.clip(value * intensity + stray * (0.4 + intensity) + speech, 0.0, 1.0)
    return units


def affect(action_units: Float[np.ndarray, "n A"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Valence and arousal of action units, -1..1.

    The prototypes' own values, weighted by how much each prototype explains of the units: least squares of the units on
    the six prototypes, negative weights dropped, sum limited to one.
    """
    # einsum adds up each face by itself; a matrix product would round differently for another number of faces
    weights = np.maximum(np.einsum("na,ae->ne", action_units, np.linalg.pinv(_MATRIX[1:])), 0.0)
    weights = weights / np.maximum(weights.sum(1, keepdims=True), 1.0)
    plane = np.einsum("ne,ep->np", weights, np.array([AFFECT[e] for e in EXPRESSIONS[1:]]))
    return plane[:, 0].clip(-1, 1), plane[:, 1].clip(-1, 1)
