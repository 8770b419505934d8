"""THIN: a code of what should *not* decide the answer chooses who gives it, and is then pushed out of the code that answers.

Two encoders that share nothing: psi reads the exogenous variable (here the turn of a digit), phi the task. A soft tree on the exogenous
code v weighs small experts on the endogenous code z. The exogenous head, made to read v, also reads z, and the dispelling loss makes both
readings orthogonal. At test time no exogenous label is needed, because v is computed from the image.

Source: Arnaud, Dapogny, Bailly, "THIN: THrowable Information Networks and Application for Facial Expression Recognition In The Wild", IEEE
TAC 2022. The gate, the mixture of logits and the shared head follow the authors' forward model; where gradients stop, the weight
of the loss and the centring of the readings are a reconstruction.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from facelab.blocks import ExpertMLP, Gate, mix

GATES = ("mean", "endogenous", "exogenous")


class Output(NamedTuple):
    """What a `THIN` says of a batch.

    Attributes:
        logits: of the classes, the mixture o.
        expert_logits: of every expert alone, f_l(z).
        weights: of the experts, mu; they sum to one.
        endogenous: the task code z = ReLU(phi(x)), as the experts read it.
        exogenous: the code v, which no gradient of the task changes.
    """

    logits: Float[Tensor, "B C"]
    expert_logits: Float[Tensor, "B L C"]
    weights: Float[Tensor, "B L"]
    endogenous: Float[Tensor, "B q"]
    exogenous: Float[Tensor, "B q"]


def encoder(size: int, channels: tuple[int, int] = (8, 16), code: int = 64) -> nn.Sequential:
    """An image becomes a code by two convolutions of stride 2 and a linear layer, each with batch norm, the first two with ReLU.

    Codes therefore have about the same size whatever they were trained for, so that one head can read those of two encoders.

    Args:
        size: side of the images (B, 1, size, size), pixels.
        channels: of the two convolutions.
        code: length q of the code.
    """
    first, second = channels
    return nn.Sequential(
        nn.Conv2d(1, first, 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(second),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * (-(-size // 4)) ** 2, code, bias=False),
        nn.BatchNorm1d(code),
    )


class ExogenousNetwork(nn.Module):
    """The encoder psi and its head rho, trained on the labels of the exogenous variable before the rest.

    Args:
        size: side of the images, pixels.
        values: number E of values of the exogenous variable.
        channels, code: as `encoder` takes them.
    """

    def __init__(self, size: int, values: int, channels: tuple[int, int] = (8, 16), code: int = 64):
        super().__init__()
        self.encoder = encoder(size, channels, code)
        self.head = nn.Linear(code, values)

    def forward(self, images: Float[Tensor, "B 1 S S"]) -> Float[Tensor, "B E"]:
        """Logits of the exogenous variable."""
        return self.head(self.encoder(images))


class THIN(nn.Module):
    """Experts on the endogenous code, mixed by a soft tree on one of the two codes.

        model = THIN(14, 9, exogenous=trained)
        logits = model(images).logits

    Args:
        size: side of the images, pixels.
        classes: number C of classes.
        exogenous: trained beforehand; it is frozen here, in place, so that the task teaches the tree what to ask v but leaves v alone.
        gate: what the tree reads: "exogenous", the code v (THIN); "endogenous", the task code before its ReLU; "mean": all experts
            weigh alike.
        experts: number L of experts, a power of two; 1 is a single head.
        hidden: width of an expert.
        channels, code: as `encoder` takes them, of phi; the code is as long as that of `exogenous`.
        concatenate: whether the experts read v beside z.
        gain: of the gate's batch norm at the start; a larger one makes leaves differ sooner.

    Raises:
        ValueError: an unknown gate, or a number of experts that is no power of two.
    """

    def __init__(
        self,
        size: int,
        classes: int,
        exogenous: ExogenousNetwork,
        gate: str = "exogenous",
        experts: int = 8,
        hidden: int = 16,
        channels: tuple[int, int] = (8, 16),
        code: int = 64,
        concatenate: bool = False,
        gain: float = 3.0,
    ):
        super().__init__()
        if gate not in GATES:
            raise ValueError(f"gate = {gate!r} is unknown; choose one of {GATES}.")
        self.reads, self.concatenate = gate, concatenate
        self.exogenous = exogenous.eval().requires_grad_(False)
        self.encoder = encoder(size, channels, code)
        self.gate = Gate("mean" if gate == "mean" or experts == 1 else "tree", code, experts)
        if self.gate.kind == "tree":
            nn.init.constant_(self.gate.tree.norm.weight, gain)
        self.experts = ExpertMLP(experts, code * (1 + concatenate), hidden, classes)

    def forward(self, images: Float[Tensor, "B 1 S S"], exogenous: Float[Tensor, "B q"] | None = None) -> Output:
        """The mixture o = sum over l of mu_l(v) f_l(z): logits are mixed, not probabilities.

        Args:
            images: standardised.
            exogenous: codes to use in place of the images' own v, such as those of other images, or the own ones computed before.
        """
        task = self.encoder(images)
        z = task.relu()  # whoever reads z, the experts, the head or a probe, reads this: nothing hides in negative values
        v = self.exogenous.encoder(images) if exogenous is None else exogenous
        weights = self.gate(v if self.reads == "exogenous" else task)
        answers = self.experts(torch.cat([z, v.relu()], dim=1) if self.concatenate else z)
        return Output(mix(weights, answers), answers, weights, z, v)


def readings(
    head: nn.Module, endogenous: Float[Tensor, "B q"], exogenous: Float[Tensor, "B q"]
) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B E"]]:
    """What the exogenous head reads in both codes, r_t = rho(z) and r_e = rho(v), each with mean zero over the E logits.

    A softmax ignores an offset of its logits but a cosine does not, hence they are centred. The head and v are constants: a gradient
    reaches z alone, because otherwise the loss would be made small by spoiling the head.
    """
    fixed = {name: value.detach() for name, value in head.named_parameters()}
    both = torch.func.functional_call(head, fixed, endogenous), torch.func.functional_call(head, fixed, exogenous.detach())
    centred = [logits - logits.mean(dim=1, keepdim=True) for logits in both]
    return centred[0], centred[1]


def dispelling_loss(
    head: nn.Module, endogenous: Float[Tensor, "B q"], exogenous: Float[Tensor, "B q"], epsilon: float = 1e-8
) -> Float[Tensor, ""]:
    """|cos(rho(z), rho(v))|, the mean over the batch, 0..1: zero where the head reads orthogonal things in both codes.

    Args:
        head: rho.
        endogenous, exogenous: z and v.
        epsilon: smallest product of lengths that is divided by.
    """
    return F.cosine_similarity(*readings(head, endogenous, exogenous), dim=1, eps=epsilon).abs().mean()


def thin_loss(output: Output, labels: Int[Tensor, " B"], head: nn.Module, dispelling: float = 0.0) -> dict[str, Tensor]:
    """Cross-entropy of the mixture, and lambda_d times the dispelling loss.

    The term lambda_e of the paper, which teaches psi and rho, has no place here because both were trained before and are frozen.

    Args:
        labels: 0..C-1.
        head: rho.
        dispelling: lambda_d; the second part is left out where it is zero.

    Returns:
        The parts by name, as `training.fit` takes them.
    """
    parts = {"task": F.cross_entropy(output.logits, labels)}
    if dispelling:
        parts["dispelling"] = dispelling * dispelling_loss(head, output.endogenous, output.exogenous)
    return parts


def exogenous_loss(network: ExogenousNetwork, batch: dict[str, Tensor], generator: torch.Generator) -> Float[Tensor, ""]:
    """Cross-entropy of the exogenous `labels` given the `images`, as `training.fit` takes it."""
    return F.cross_entropy(network(batch["images"]), batch["labels"])


def training_loss(code: str, dispelling: float = 0.0) -> Callable[[THIN, dict[str, Tensor], torch.Generator], dict[str, Tensor]]:
    """`thin_loss` as `training.fit` takes it, on batches with `images`, `labels` and exogenous codes that were computed once.

    Args:
        code: name of the batch's entry with the codes of the model's frozen encoder.
        dispelling: lambda_d.
    """

    def loss(model: THIN, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        return thin_loss(model(batch["images"], batch[code]), batch["labels"], model.exogenous.head, dispelling)

    return loss
