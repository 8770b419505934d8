"""Importance told from weights, activations and gradients."""

from facelab.importance.criteria.registry import CRITERIA, Criterion, criteria, first_samples
