"""The core carries what is neither a landmark nor a mean of scores: a segmenter, judged by its mean intersection over union."""

import pytest
import torch.nn.functional as F
from torch import nn

from facelab import claims, metrics, training
from facelab.blocks import UNet, augment, seeded
from facelab.worlds import faces

pytestmark = pytest.mark.slow
CLASSES = len(faces.PARTS)
RIVALS = {
    "U-Net": lambda: nn.Sequential(UNet(3, (8, 12, 16)), nn.Conv2d(8, CLASSES, 1)),
    "colour of each pixel": lambda: nn.Conv2d(3, CLASSES, 1),
}


def cross_entropy(model, batch, generator):
    images, parts = augment(batch["images"], masks=batch["parts"], generator=generator, rotation=10.0, occlusion=0.0)
    return F.cross_entropy(model(images), parts)


def trained(rival, train, **options):
    with seeded(0):
        model = RIVALS[rival]()
    options |= {"steps": 100, "batch_size": 16, "learning_rate": 3e-2, "progress": False}
    training.fit(model, cross_entropy, train.tensors("parts", colour=True), **options)
    return model


def claimed(test, **models):
    answers = {name: training.predict(model, test.colour(), lambda scores: scores.argmax(dim=1)) for name, model in models.items()}
    parts = {name: metrics.confusions(answer, test.parts, CLASSES) for name, answer in answers.items()}
    words = "Who sees the neighbourhood finds the parts of a face better than who sees the colour of one pixel"
    options = {"better": "higher", "gain": "absolute", "margin": 0.05, "statistic": metrics.mean_iou, "groups": test.groups}
    return claims.claim(words, name="parts", **parts, **options)


def test_a_segmenter_is_trained_judged_stopped_and_resumed(tmp_path):
    train, test = (faces.render(count, seed=seed, size=24, channels="parts") for seed, count in enumerate((256, 64)))
    baseline = trained("colour of each pixel", train)
    claim = claimed(test, ours=trained("U-Net", train), baseline=baseline)
    claims.require(claim)
    assert not claimed(test, ours=baseline, baseline=baseline).met

    def stop(model, made):
        if made == 50:
            raise KeyboardInterrupt

    checkpoints = {"checkpoint": tmp_path, "checkpoint_every": 40}
    with pytest.raises(KeyboardInterrupt):
        trained("U-Net", train, after_step=stop, **checkpoints)
    assert [folder.name for folder in tmp_path.iterdir()] == ["step-000040"]
    assert claimed(test, ours=trained("U-Net", train, **checkpoints), baseline=baseline) == claim, "the same figures twice"
