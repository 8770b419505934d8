"""Visual words: small patches, each named after the nearest of a few typical patches, and counted.

Source: Csurka, Dance, Fan, Willamowski, Bray: Visual categorization with bags of keypoints, ECCV workshop 2004; on raw patches, counted in
quarters of the image as in Lazebnik, Schmid, Ponce, CVPR 2006.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from sklearn.cluster import MiniBatchKMeans
from torch.nn import functional as F

PATCHES = 50_000
"""As many patches at most learn the words."""


@dataclass(frozen=True)
class VisualWords:
    """A vocabulary of patches.

    Attributes:
        clusters: whose centres are the words.
        side: of a patch, pixels.
        stride: from a patch to the next, pixels.
    """

    clusters: MiniBatchKMeans
    side: int
    stride: int

    @classmethod
    def learnt(
        cls, images: Float[np.ndarray, "B 1 H W"], words: int = 128, *, side: int = 5, stride: int = 2, seed: int = 0
    ) -> "VisualWords":
        """The words that k-means finds in the patches of images, which need no labels.

            counts = VisualWords.learnt(images).counts(others)  # (B, 512)

        Args:
            words: how many.
            seed: of the clustering.
        """
        patches = _patches(images, side, stride)
        patches = patches[:: -(-len(patches) // PATCHES)]
        return cls(MiniBatchKMeans(words, n_init=1, batch_size=2048, max_iter=20, random_state=seed).fit(patches), side, stride)

    def counts(self, images: Float[np.ndarray, "B 1 H W"]) -> Float[np.ndarray, "B m"]:
        """How often each word occurs in each quarter of an image: quarter by quarter, and in it word by word."""
        rows, columns = (1 + (length - self.side) // self.stride for length in images.shape[-2:])
        words = len(self.clusters.cluster_centers_)
        found = self.clusters.predict(_patches(images, self.side, self.stride)).reshape(len(images), rows, columns)
        quarter = 2 * (2 * np.arange(rows) // rows)[:, None] + 2 * np.arange(columns) // columns
        places = found + words * quarter + 4 * words * np.arange(len(images))[:, None, None]
        return np.bincount(places.ravel(), minlength=4 * words * len(images)).reshape(len(images), -1).astype(float)


def _patches(images: Float[np.ndarray, "B 1 H W"], side: int, stride: int) -> Float[np.ndarray, "P n"]:
    """All patches of all images, without their mean, and of length 1 unless they are nearly flat."""
    patches = F.unfold(torch.from_numpy(images), side, stride=stride).transpose(1, 2).flatten(0, 1).numpy()
    patches = patches - patches.mean(axis=1, keepdims=True)
    return patches / np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), 0.1)
