"""Smaller networks, measured alike: networks to compress, the methods, one evaluation, packed storage, a report."""
