"""What takes the light out of an image."""

from jaxtyping import Float
from torch import Tensor


def standardise(images: Float[Tensor, "B C H W"], least: float = 0.05) -> Float[Tensor, "B C H W"]:
    """Each image less its mean, over its standard deviation: a brighter or flatter photograph looks the same to the network.

    Args:
        images: 0..1.
        least: added to the deviation, so that the noise of a nearly plain image is not blown up.
    """
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    deviation = images.std(dim=(1, 2, 3), keepdim=True, unbiased=False)
    return (images - mean) / (deviation + least)
