"""Small networks as strangers bring them, each with inputs, targets, and which of its channels live and die together, written by hand."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.fx
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn

from facelab.importance.scores import log_likelihood

SAMPLES, CLASSES = 6, 3
LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
Places = dict[str, list[int]]


def same(*names: str) -> Callable[[int], Places]:
    """Channel c of a unit is channel c of all of these modules."""
    return lambda channel: {name: [channel] for name in names}


@dataclass
class Stranger:
    """A network and how it is asked.

    Attributes:
        model: in evaluation mode.
        inputs, targets: of a few samples.
        ties: name of a group or layer -> (its channel -> which channels of which modules are zero without it); what is not
            named is a layer of its own, with nothing behind it.
        idle: layers that never run.
        target: what attribution explains.
        score: of the sweeps and criteria.
        channels: axis of the inputs that counts them.
    """

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    ties: dict[str, Callable[[int], Places]] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    target: int | Callable = 0
    score: Callable = log_likelihood
    channels: int = 1

    @property
    def layers(self) -> list[str]:
        """Names of the layers that run."""
        return [name for name, part in self.model.named_modules() if isinstance(part, LAYERS) and name not in self.idle]

    @property
    def units(self) -> dict[str, Callable[[int], Places]]:
        """Of every group of layers, which channels are zero without one of its channels."""
        bound = {part for name in self.ties for part in name.split("+")}
        return self.ties | {name: same(name) for name in self.layers if name not in bound}


def images(*shape: int) -> Tensor:
    return torch.randn(SAMPLES, *(shape or (3, 6, 6)))


def labels() -> Tensor:
    return torch.randint(0, CLASSES, (SAMPLES,))


def lively(model: nn.Module) -> nn.Module:
    """Batch norms as after a training, in evaluation mode."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm):
            if getattr(module, "running_mean", None) is not None:
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.5, 2)
            if module.weight is not None:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.5)
    return model.eval()


class Net(nn.Module):
    """Layers by name, and what is done with them."""

    def __init__(self, does: Callable, **layers: nn.Module):
        super().__init__()
        self.does = does
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.does(self, x)


STRANGERS: dict[str, Callable[[], Stranger]] = {}


def stranger(name: str):
    """Puts a builder into the list."""

    def keep(build):
        def seeded() -> Stranger:
            torch.manual_seed(0)
            found = build()
            found.model = lively(found.model)
            return found

        STRANGERS[name] = seeded
        return build

    return keep


def image_net(does: Callable, inputs: Tensor | None = None, ties=None, **layers: nn.Module) -> Stranger:
    """A classifier of images."""
    inputs = images() if inputs is None else inputs
    return Stranger(Net(does, **layers), inputs, labels(), ties or {})


def token_net(does: Callable, steps: int, width: int, ties=None, **layers: nn.Module) -> Stranger:
    """A classifier of sequences of tokens (samples, steps, width)."""
    found = image_net(does, images(steps, width), ties, **layers)
    found.channels = 2
    return found


def conv(inputs: int = 4, outputs: int = 4, side: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, **options)


def head(inputs: int = 4) -> nn.Linear:
    return nn.Linear(inputs, CLASSES)


@stranger("residual")
def residual():
    def does(net, x):
        h = net.norm(net.stem(x)).relu()
        return net.head((h + net.norm2(net.second(net.norm1(net.first(h)).relu()))).relu().mean((2, 3)))

    ties = {"stem+second": same("stem", "norm", "second", "norm2"), "first": same("first", "norm1")}
    norms = {name: nn.BatchNorm2d(4) for name in ("norm", "norm1", "norm2")}
    return image_net(does, None, ties, stem=conv(3), first=conv(), second=conv(bias=False), head=head(), **norms)


@stranger("pre-activation, in place")
def preactivated():
    def does(net, x):
        h = net.stem(x)
        h = h + net.first(net.relu(net.norm(h)))
        h += net.second(net.relu(net.norm2(h)))
        return net.head(h.mean((2, 3)))

    ties = {"stem+first+second": same("stem", "norm", "first", "norm2", "second")}
    norms = dict(norm=nn.BatchNorm2d(4), norm2=nn.BatchNorm2d(4))
    return image_net(does, None, ties, stem=conv(3), relu=nn.ReLU(inplace=True), first=conv(), second=conv(), head=head(), **norms)


@stranger("in place on a shortcut")
def overwritten():
    def does(net, x):
        h = net.stem(x)
        return net.head((h + net.first(net.relu(h))).mean((2, 3)))

    ties = {"stem+first": same("stem", "first")}
    return image_net(does, None, ties, stem=conv(3), relu=nn.ReLU(inplace=True), first=conv(), head=head())


@stranger("squeeze-excitation")
def excited():
    def does(net, x):
        h = net.stem(x)
        gate = torch.sigmoid(net.up(net.down(h.mean((2, 3))).relu()))
        return net.head((h * gate[:, :, None, None]).relu().mean((2, 3)))

    return image_net(does, stem=conv(3), down=nn.Linear(4, 2), up=nn.Linear(2, 4), head=head())


@stranger("depthwise")
def depthwise():
    def does(net, x):
        h = net.norm(net.depthwise(net.stem(x).relu())).relu()
        return net.head(net.pointwise(h).relu().mean((2, 3)))

    ties = {"stem+depthwise": same("stem", "depthwise", "norm")}
    norm = nn.BatchNorm2d(4)
    return image_net(does, None, ties, stem=conv(3), depthwise=conv(groups=4), norm=norm, pointwise=conv(4, 5, 1), head=head(5))


@stranger("depthwise, two each")
def multiplied():
    def does(net, x):
        return net.head(net.depthwise(net.stem(x).relu()).relu().mean((2, 3)))

    return image_net(does, stem=conv(3), depthwise=conv(4, 8, groups=4), head=head(8))


@stranger("grouped")
def grouped():
    def does(net, x):
        return net.head(net.second(net.norm(net.first(net.stem(x).relu())).relu()).mean((2, 3)))

    ties = {"first": same("first", "norm")}
    return image_net(does, None, ties, stem=conv(3), first=conv(4, 6, groups=2), norm=nn.BatchNorm2d(6), second=conv(6, 4), head=head())


def shuffle(x: Tensor, groups: int = 2) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


@stranger("shuffled channels")
def shuffled():
    def does(net, x):
        h = shuffle(net.first(net.stem(x).relu()))
        return net.head(net.last(net.norm(net.depthwise(h)).relu()).mean((2, 3)))

    place = [0, 3, 1, 4, 2, 5]  # of six channels in two groups, place[i] is the one that comes to i

    def tied(channel):
        to = place.index(channel)
        return {"first": [channel], "depthwise": [to], "norm": [to]}

    layers = dict(stem=conv(3), first=conv(4, 6, groups=2), depthwise=conv(6, 6, groups=6), norm=nn.BatchNorm2d(6), last=conv(6))
    return image_net(does, None, {"first+depthwise": tied}, head=head(), **layers)


@stranger("transposed")
def transposed():
    def does(net, x):
        h = net.norm(net.up(net.stem(x).relu())).relu()
        return net.head(net.wide(h).relu().mean((2, 3)))

    ties = {"up": same("up", "norm")}
    up, wide = nn.ConvTranspose2d(4, 5, 2, 2, bias=False), nn.ConvTranspose2d(5, 4, 3)
    return image_net(does, None, ties, stem=conv(3), up=up, norm=nn.BatchNorm2d(5), wide=wide, head=head())


@stranger("transposed, grouped")
def transposed_groups():
    def does(net, x):
        return net.head(net.norm(net.up(net.stem(x).relu())).relu().mean((2, 3)))

    up = nn.ConvTranspose2d(4, 6, 2, 2, groups=2)
    return image_net(does, None, {"up": same("up", "norm")}, stem=conv(3), up=up, norm=nn.BatchNorm2d(6), head=head(6))


@stranger("1-D")
def signals():
    def does(net, x):
        return net.head(F.max_pool1d(net.norm(net.second(net.first(x).relu())).relu(), 2).flatten(1))

    ties = {"second": same("second", "norm")}
    layers = dict(first=nn.Conv1d(2, 4, 3), second=nn.Conv1d(4, 5, 3), norm=nn.BatchNorm1d(5), head=head(20))
    return image_net(does, images(2, 12), ties, **layers)


@stranger("1-D, turned")
def turned():
    def does(net, x):
        return net.head(net.first(x.transpose(1, 2)).relu().amax(2))

    return token_net(does, 5, 5, first=nn.Conv1d(5, 4, 3), head=head())  # as many steps as channels


@stranger("3-D")
def volumes():
    def does(net, x):
        return net.head(net.pool(net.norm(net.second(net.first(x).relu())).relu()).flatten(1))

    ties = {"second": same("second", "norm")}
    layers = dict(first=nn.Conv3d(1, 4, 3), second=nn.Conv3d(4, 5, 2), norm=nn.BatchNorm3d(5), pool=nn.AdaptiveAvgPool3d(1), head=head(5))
    return image_net(does, images(1, 6, 5, 5), ties, **layers)


@stranger("LSTM")
def recurrent():
    def does(net, x):
        return net.head(net.hidden(net.lstm(net.embed(x))[0][:, -1]).relu())

    layers = dict(embed=nn.Linear(3, 5), lstm=nn.LSTM(5, 4, batch_first=True), hidden=nn.Linear(4, 5), head=head(5))
    return token_net(does, 7, 3, **layers)


@stranger("GRU, steps first")
def steps_first():
    def does(net, x):
        return net.head(net.hidden(net.gru(net.embed(x.transpose(0, 1)))[0]).relu()[-1])

    layers = dict(embed=nn.Linear(3, 5), gru=nn.GRU(5, 4), hidden=nn.Linear(4, 5), head=head(5))
    return token_net(does, SAMPLES, 3, **layers)  # as many steps as samples


@stranger("transformer encoder")
def transformer():
    def does(net, x):
        return net.head(net.encoder(net.embed(x)).mean(1))

    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    found = token_net(does, 5, 3, embed=nn.Linear(3, 8), encoder=encoder, head=head(8))
    found.idle = ("encoder.layers.0.self_attn.out_proj",)  # attention reads its weight, the layer itself does not run
    return found


def rotated(x: Tensor) -> Tensor:
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] / 10 ** torch.arange(x.shape[-1] // 2, device=x.device)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos()], -1).flatten(-2)


@stranger("rotary attention")
def rotary():
    def does(net, x):
        h = net.embed(x)
        b, t, d = h.shape
        q, k, v = (part.view(b, t, 2, d // 2).transpose(1, 2) for part in net.three(net.norm(h)).chunk(3, -1))
        weights = (rotated(q) @ rotated(k).transpose(-1, -2) / (d // 2) ** 0.5).softmax(-1)
        h = h + net.out((weights @ v).transpose(1, 2).reshape(b, t, d))
        return net.head(h.mean(1))

    ties = {"embed+out": same("embed", "out")}
    layers = dict(embed=nn.Linear(3, 8), norm=nn.LayerNorm(8), three=nn.Linear(8, 24), out=nn.Linear(8, 8), head=head(8))
    return token_net(does, 5, 3, ties, **layers)


@stranger("embedding")
def words():
    def does(net, x):
        return net.head(net.hidden(net.table(x)).relu().mean(1))

    layers = dict(table=nn.Embedding(20, 6), hidden=nn.Linear(6, 5), head=head(5))
    return image_net(does, torch.randint(1, 20, (SAMPLES, 5)), **layers)


@stranger("siamese")
def siamese():
    def does(net, x):
        a, b = (net.norm(net.encoder(part)).relu().mean((2, 3)) for part in (x[:, :1], x[:, 1:]))
        return net.head(torch.cat([a, b, (a - b).abs()], 1))

    layers = dict(encoder=conv(1), norm=nn.BatchNorm2d(4), head=head(12))
    return image_net(does, images(2, 6, 6), {"encoder": same("encoder", "norm")}, **layers)


@stranger("one head, two scales")
def scales():
    def does(net, x):
        h = net.stem(x).relu()
        return sum(net.head(net.shared(part).relu().mean((2, 3))) for part in (h, F.avg_pool2d(h, 2)))

    return image_net(does, stem=conv(3), shared=conv(), head=head())


@stranger("tied decoder")
def tied():
    def does(net, x):
        return net.head(F.linear(net.code(x).relu(), net.code.weight.t()))

    return image_net(does, images(5), code=nn.Linear(5, 4, bias=False), head=head(5))


@stranger("one weight, two layers")
def shared():
    def does(net, x):
        return net.head(net.second(net.first(x).relu()))

    found = image_net(does, images(4), first=nn.Linear(4, 4), second=nn.Linear(4, 4), head=head())
    found.model.second.weight = found.model.first.weight
    return found


@stranger("weight norm")
def weight_normed():
    def does(net, x):
        return net.head(net.second(net.first(x).relu()).relu().mean((2, 3)))

    normed = nn.utils.parametrizations.weight_norm(conv())
    return image_net(does, first=conv(3), second=normed, head=head())


@stranger("spectral norm, old hooks")
def spectral():
    def does(net, x):
        return net.head(net.second(net.first(x).relu()).relu().mean((2, 3)))

    return image_net(does, first=conv(3), second=nn.utils.spectral_norm(conv()), head=head())


class FrozenNorm(nn.Module):
    """What detection backbones have instead of a batch norm."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("weight", torch.rand(channels) + 0.5)
        self.register_buffer("bias", torch.randn(channels))
        self.register_buffer("running_mean", torch.randn(channels))
        self.register_buffer("running_var", torch.rand(channels) + 0.5)

    def forward(self, x):
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale.view(1, -1, 1, 1) + (self.bias - self.running_mean * scale).view(1, -1, 1, 1)


def normed(norm: nn.Module, *behind: str) -> Stranger:
    def does(net, x):
        return net.head(net.second(net.norm(net.first(x)).relu()).relu().mean((2, 3)))

    return image_net(does, None, {"first": same("first", *behind)}, first=conv(3), norm=norm, second=conv(), head=head())


stranger("synchronised norm")(lambda: normed(nn.SyncBatchNorm(4), "norm"))
stranger("frozen norm")(lambda: normed(FrozenNorm(4), "norm"))
stranger("group norm")(lambda: normed(nn.GroupNorm(2, 4)))
stranger("norm of the batch")(lambda: normed(nn.BatchNorm2d(4, track_running_stats=False), "norm"))


@stranger("layer norm")
def layer_normed():
    def does(net, x):
        h = net.embed(x)
        return net.head((h + net.narrow(F.gelu(net.wide(net.norm(h))))).mean(1))

    ties = {"embed+narrow": same("embed", "narrow")}
    layers = dict(embed=nn.Linear(3, 4), norm=nn.LayerNorm(4), wide=nn.Linear(4, 6), narrow=nn.Linear(6, 4), head=head())
    return token_net(does, 5, 3, ties, **layers)


@stranger("PReLU")
def prelu():
    def does(net, x):
        h = net.act(net.stem(x))
        h = net.norm(h + F.prelu(net.first(h), net.act.weight))
        return net.head(h.mean((2, 3)))

    ties = {"stem+first": same("stem", "first", "norm")}
    return image_net(does, None, ties, stem=conv(3), act=nn.PReLU(4), first=conv(), norm=nn.BatchNorm2d(4), head=head())


class Functional(nn.Module):
    """No layer is a module but the last."""

    def __init__(self):
        super().__init__()
        self.kernel, self.shift, self.matrix = (nn.Parameter(torch.randn(*s) / 3) for s in ((4, 3, 3, 3), (4,), (5, 4)))
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("variance", torch.rand(4) + 0.5)
        self.head = head(5)

    def forward(self, x):
        h = F.conv2d(x, self.kernel, self.shift, padding=1)
        h = F.relu(F.batch_norm(h, self.mean, self.variance))
        return self.head(F.relu(F.linear(F.adaptive_avg_pool2d(h, 1).flatten(1), self.matrix)))


stranger("functional everything")(lambda: Stranger(Functional(), images(), labels()))


class OnlyFunctional(Functional):
    """No layer is a module."""

    def __init__(self):
        super().__init__()
        self.head = None
        self.last = nn.Parameter(torch.randn(CLASSES, 5))

    def forward(self, x):
        h = F.relu(F.conv2d(x, self.kernel, self.shift)).mean((2, 3))
        return F.linear(F.relu(F.linear(h, self.matrix)), self.last)


stranger("no module at all")(lambda: Stranger(OnlyFunctional(), images(), labels()))


@stranger("several heads, one unused")
def heads():
    def does(net, x):
        h = net.stem(x).relu()
        unused = net.aside(h)  # noqa: F841
        return net.head(h.mean((2, 3))) + net.other(h.amax((2, 3)))

    found = image_net(
        does, None, {"head+other": same("head", "other")}, stem=conv(3), aside=conv(), head=head(), other=head(), spare=head()
    )
    found.idle = ("spare",)
    return found


@stranger("dropout left on")
def dropping():
    def does(net, x):
        return net.head(F.dropout(net.hidden(x).relu(), 0.5))

    return image_net(does, images(4), hidden=nn.Linear(4, 6), head=head(6))


@stranger("float64")
def doubles():
    found = residual()
    found.model, found.inputs = found.model.double(), found.inputs.double()
    return found


@stranger("bfloat16")
def halves():
    found = residual()
    found.model, found.inputs = found.model.bfloat16(), found.inputs.bfloat16()
    return found


@stranger("compiled")
def compiled():
    found = residual()
    lively(found.model)
    found.model = torch.compile(found.model, backend="eager")
    found.model(found.inputs)
    return found


@stranger("scripted")
def scripted():
    model = lively(nn.Sequential(conv(3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), head(144)))
    return Stranger(torch.jit.script(model), images(), labels())


class Two(nn.Module):
    """Two inputs."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 5), nn.Linear(3, 5), head(5)

    def forward(self, x, z):
        return self.head((self.a(x) + self.b(z)).relu())


stranger("two inputs")(lambda: Stranger(Two(), (images(4), images(3)), labels()))
stranger("two inputs, one given")(lambda: Stranger(Two(), images(4), labels()))


@stranger("dict output")
def named():
    def does(net, x):
        h = net.hidden(x).relu()
        return {"logits": net.head(h), "features": h}

    found = image_net(does, images(4), hidden=nn.Linear(4, 6), head=head(6))
    found.target = lambda outputs: outputs["logits"][:, 0]
    found.score = lambda outputs, targets: log_likelihood(outputs["logits"], targets)
    return found


@stranger("dict output, score of tensors")
def misnamed():
    found = named()
    found.target, found.score = 0, log_likelihood
    return found


# --- relatives ---


@stranger("concatenation")
def dense():
    def does(net, x):
        a = net.first(x).relu()
        b = net.second(a).relu()
        h = net.norm(torch.cat([a, b], 1))
        return net.head((h + net.third(h)).mean((2, 3)))

    def tied(channel):  # the first layer's four channels, then the second's
        return {"first": [channel], "norm": [channel], "third": [channel]}

    def behind(channel):
        return {"second": [channel], "norm": [4 + channel], "third": [4 + channel]}

    layers = dict(first=conv(3), second=conv(4, 2), norm=nn.BatchNorm2d(6), third=conv(6, 6), head=head(6))
    found = image_net(does, None, {"first+third": tied, "second+third": behind}, **layers)
    return found


@stranger("gated linear unit")
def gated():
    def does(net, x):
        a, b = net.first(x).chunk(2, 1)
        return net.head(net.second(a * torch.sigmoid(b)).relu().mean((2, 3)) + F.glu(net.other(x), 1).mean((2, 3)))

    return image_net(does, first=conv(3, 8), second=conv(), other=conv(3, 8), head=head())


@stranger("pixel shuffle")
def pixels():
    def does(net, x):
        return net.head(F.pixel_shuffle(net.first(x).relu(), 2).flatten(1))

    return image_net(does, first=conv(3, 8), head=head(2 * 144))


@stranger("a branch on values")
def branching():
    def does(net, x):
        h = net.norm(net.stem(x)).relu()
        return net.head((h + net.first(h) if bool(x.isfinite().all()) else h).mean((2, 3)))

    ties = {"stem+first": same("stem", "norm", "first")}
    return image_net(does, None, ties, stem=conv(3), norm=nn.BatchNorm2d(4), first=conv(), head=head())


@stranger("untraceable, through NumPy")
def detour():
    def does(net, x):
        scale = torch.from_numpy(x.detach().numpy().max(axis=(1, 2, 3))).to(x)[:, None]
        h = shuffle(net.stem(x)).relu()
        return net.head((h + net.first(h)).flatten(1)) * (1 + 0 * scale)

    def tied(channel):
        return {"stem": [channel], "first": [[0, 2, 1, 3].index(channel)]}

    return image_net(does, None, {"stem+first": tied}, stem=conv(3), first=conv(), head=head(144))


@stranger("data parallel")
def parallel():
    found = residual()
    found.model = nn.DataParallel(found.model)
    found.ties = {
        "+".join(f"module.{part}" for part in name.split("+")): lambda c, cut=cut: {f"module.{k}": v for k, v in cut(c).items()}
        for name, cut in found.ties.items()
    }
    return found


@stranger("a layer that is the model")
def alone():
    return Stranger(nn.Linear(4, CLASSES), images(4), labels())


@stranger("two norms in a row")
def twice_normed():
    def does(net, x):
        return net.head(net.second(net.norm2(net.norm(net.first(x)))).relu().mean((2, 3)))

    norms = dict(norm=nn.BatchNorm2d(4), norm2=nn.BatchNorm2d(4))
    return image_net(does, None, {"first": same("first", "norm", "norm2")}, first=conv(3), second=conv(), head=head(), **norms)


class LowRank(nn.Linear):
    """A layer with another two in it, as fine-tuning adds them."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.down, self.up = nn.Linear(inputs, 2, bias=False), nn.Linear(2, outputs, bias=False)

    def forward(self, x):
        return super().forward(x) + self.up(self.down(x))


@stranger("low-rank adapters")
def adapted():
    def does(net, x):
        return net.head(net.hidden(x).relu())

    return image_net(does, images(5), hidden=LowRank(5, 4), head=head())


@stranger("checkpointed")
def checkpointed():
    def does(net, x):
        h = net.stem(x).relu()
        return net.head((h + torch.utils.checkpoint.checkpoint(net.first, h, use_reentrant=False)).mean((2, 3)))

    return image_net(does, None, {"stem+first": same("stem", "first")}, stem=conv(3), first=conv(), head=head())


@stranger("channels last")
def channels_last():
    def does(net, x):
        return net.head(net.stem(x.permute(0, 3, 1, 2)).relu().mean((2, 3)))

    found = image_net(does, images(6, 5, 3), stem=conv(3), head=head())
    found.channels = 3
    return found


@stranger("traced by torch.fx")
def graph():
    found = residual()
    found.model = torch.fx.symbolic_trace(found.model)
    return found


@stranger("maxima and quotients")
def quotients():
    def does(net, x):
        h = net.stem(x)
        h = net.norm(torch.maximum(net.first(h), net.second(h)) / 2)
        return net.head(h.amax((2, 3)) / (1 + h.abs().amax((2, 3))))

    ties = {"first+second": same("first", "second", "norm")}
    return image_net(does, None, ties, stem=conv(3), first=conv(), second=conv(), norm=nn.BatchNorm2d(4), head=head())


@stranger("instance norm")
def instance():
    return normed(nn.InstanceNorm2d(4, affine=True))


@stranger("local response norm")
def local():
    return normed(nn.LocalResponseNorm(3))


@stranger("no samples in the batch axis")
def patches():
    def does(net, x):
        pieces = x.unfold(2, 3, 3).unfold(3, 3, 3).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 3, 3)
        return net.head(net.stem(pieces).relu().mean((2, 3)).view(x.shape[0], -1, 4).mean(1))

    return image_net(does, stem=conv(3), head=head())


def copied(found: Stranger) -> nn.Module:
    """The model's copy, to be changed by hand."""
    return copy.deepcopy(found.model)
