"""A training step of the `sngan_star` networks in PyTorch, as a process of its own.

    python benchmarks/peers/torch_gan.py FOLDER [--channels_last]

FOLDER holds `step.json` (sizes, rates) and `start.npz` (weights by the package's names, batches, noise), both written
by `benchmarks.training_peer`. The process makes the networks, refuses weights that do not fit exactly, and then answers
one line of JSON for each line it reads: "check" trains a step on each of the batches and tells all losses and gradient
norms (to be compared with the package's), a number trains as many more steps and tells the last ones. Only torch and
NumPy are needed.

Layers, widths, spectral norms (one power iteration for each update of a network, none for its other uses), losses, Adam
and moving average are the package's; 1x1 convolutions stand on the side of the resampling where they are cheap, as
there. What differs is that each operation is PyTorch's own. Real and generated images go through the discriminator in
one batch; Adam and the moving average are the fused and the joint form.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import torch
except ImportError as missing:
    print(json.dumps({"missing": f"{sys.executable} cannot import torch and NumPy ({missing})"}), flush=True)
    sys.exit(0)

from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrizations import _SpectralNorm  # has no public name, and no public way to hold it still


def spectral(layer: nn.Module) -> nn.Module:
    """PyTorch's spectral normalization; an embedding's kernel is the transposed of the package's matrix."""
    dim = 1 if isinstance(layer, nn.Embedding) else 0
    return parametrizations.spectral_norm(layer, n_power_iterations=1, eps=1e-12, dim=dim)


def power_iterations(network: nn.Module, on: bool) -> None:
    """Whether the next uses of a network in training mode move its spectral vectors."""
    for part in network.modules():
        if isinstance(part, _SpectralNorm):
            part.train(on)


class ConditionalBatchNorm(nn.Module):
    """Batch normalization with a scale and an offset for each class."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=1e-5, momentum=0.01, affine=False)
        self.gamma = nn.Embedding(classes, channels)
        self.beta = nn.Embedding(classes, channels)

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        gamma, beta = (table(labels)[:, :, None, None] for table in (self.gamma, self.beta))
        return torch.addcmul(beta, self.norm(features), gamma)


class UpBlock(nn.Module):
    """The package's up block."""

    def __init__(self, inputs: int, outputs: int, classes: int):
        super().__init__()
        self.norm1 = ConditionalBatchNorm(inputs, classes)
        self.conv1 = spectral(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.norm2 = ConditionalBatchNorm(outputs, classes)
        self.conv2 = spectral(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.shortcut = spectral(nn.Conv2d(inputs, outputs, 1))

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        hidden = functional.interpolate(functional.relu(self.norm1(features, labels)), scale_factor=2)
        hidden = self.conv2(functional.relu(self.norm2(self.conv1(hidden), labels)))
        return hidden + functional.interpolate(self.shortcut(features), scale_factor=2)


class Generator(nn.Module):
    """The package's generator without attention."""

    def __init__(self, latent_dim: int, first: int, blocks: list[int], classes: int):
        super().__init__()
        self.first = first
        self.dense = spectral(nn.Linear(latent_dim, 16 * first))
        inputs = first
        for index, outputs in enumerate(blocks):
            self.add_module(f"block{index + 1}", UpBlock(inputs, outputs, classes))
            inputs = outputs
        self.blocks = len(blocks)
        self.norm = nn.BatchNorm2d(inputs, eps=1e-5, momentum=0.01)
        self.to_image = spectral(nn.Conv2d(inputs, 3, 3, padding=1))

    def forward(self, latents: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        hidden = self.dense(latents).view(-1, 4, 4, self.first).permute(0, 3, 1, 2)
        for index in range(self.blocks):
            hidden = self.get_submodule(f"block{index + 1}")(hidden, labels)
        return torch.tanh(self.to_image(functional.relu(self.norm(hidden))))


class DownBlock(nn.Module):
    """The package's down block."""

    def __init__(self, inputs: int, outputs: int, hidden: int, first: bool, downsample: bool, learned_shortcut: bool):
        super().__init__()
        self.first, self.downsample = first, downsample
        self.conv1 = spectral(nn.Conv2d(inputs, hidden, 3, padding=1))
        self.conv2 = spectral(nn.Conv2d(hidden, outputs, 3, padding=1))
        self.shortcut = spectral(nn.Conv2d(inputs, outputs, 1)) if learned_shortcut else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        hidden = features if self.first else functional.relu(features)
        hidden = self.conv2(functional.relu(self.conv1(hidden)))
        if self.downsample:
            hidden, features = functional.avg_pool2d(hidden, 2), functional.avg_pool2d(features, 2)
        return hidden + self.shortcut(features)


class Discriminator(nn.Module):
    """The package's discriminator with projection."""

    def __init__(self, blocks: list[dict[str, Any]], classes: int):
        super().__init__()
        for index, options in enumerate(blocks):
            self.add_module(f"block{index + 1}", DownBlock(**options))
        self.blocks = len(blocks)
        channels = blocks[-1]["outputs"]
        self.embedding = spectral(nn.Embedding(classes, channels))
        self.dense = spectral(nn.Linear(channels, 1))

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        hidden = images
        for index in range(self.blocks):
            hidden = self.get_submodule(f"block{index + 1}")(hidden)
        pooled = functional.relu(hidden).sum(dim=(2, 3))
        return self.dense(pooled) + (pooled * self.embedding(labels)).sum(dim=1, keepdim=True)


def slots(network: nn.Module) -> dict[str, tuple[torch.Tensor, tuple[int, ...]]]:
    """The package's name of every weight -> (tensor, axes to permute the package's array by)."""
    found: dict[str, tuple[torch.Tensor, tuple[int, ...]]] = {}
    for path, part in network.named_modules():
        name = path.replace(".", "/")
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            kernel = part.parametrizations.weight
            found[f"{name}/kernel"] = (kernel.original, (3, 2, 0, 1) if isinstance(part, nn.Conv2d) else (1, 0))
            found[f"{name}/bias"] = (part.bias, (0,))
            found[f"{name}/u"] = (kernel[0]._u, (0,))
        elif isinstance(part, nn.Embedding) and name == "embedding":
            found["embedding/embeddings"] = (part.parametrizations.weight.original, (0, 1))
            found["embedding/u"] = (part.parametrizations.weight[0]._u, (0,))
        elif isinstance(part, nn.Embedding):  # of a conditional batch normalization
            found[name] = (part.weight, (0, 1))
        elif isinstance(part, nn.BatchNorm2d):
            owner = name if part.affine else name.rsplit("/", 1)[0]
            found[f"{owner}/moving_mean"] = (part.running_mean, (0,))
            found[f"{owner}/moving_variance"] = (part.running_var, (0,))
            if part.affine:
                found[f"{owner}/gamma"], found[f"{owner}/beta"] = (part.weight, (0,)), (part.bias, (0,))
    return found


def load(network: nn.Module, values: dict[str, np.ndarray], name: str) -> None:
    """Sets all weights; raises ValueError unless names and shapes are the same."""
    targets = slots(network)
    if set(targets) != set(values):
        raise ValueError(f"{name}: only one side has {sorted(set(targets) ^ set(values))}")
    held = sum(tensor.numel() for tensor in network.parameters())
    named = sum(tensor.numel() for tensor, _ in targets.values() if tensor.requires_grad)
    if held != named:
        raise ValueError(f"{name}: {held} parameters, of which only {named} have a counterpart")
    with torch.no_grad():
        for key, (tensor, axes) in targets.items():
            tensor.copy_(torch.tensor(values[key].transpose(axes)))
        for part in network.modules():  # the right vector of the pair, which the package derives from the left one
            if isinstance(part, nn.Module) and hasattr(part, "parametrizations"):
                norm = part.parametrizations.weight[0]
                matrix = norm._reshape_weight_to_matrix(part.parametrizations.weight.original)
                norm._v.copy_(functional.normalize(matrix.T @ norm._u, dim=0, eps=1e-12))


class Trainer:
    """Both networks, their optimizers and the moving average."""

    def __init__(self, folder: Path, channels_last: bool):
        settings = json.loads((folder / "step.json").read_text())
        arrays = dict(np.load(folder / "start.npz"))
        torch.set_num_threads(settings["threads"])
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.generator = Generator(settings["latent_dim"], settings["first"], settings["up"], settings["classes"])
        self.discriminator = Discriminator(settings["down"], settings["classes"])
        self.average = Generator(settings["latent_dim"], settings["first"], settings["up"], settings["classes"])
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        for name, network in networks.items():
            load(network, {k.split("/", 1)[1]: v for k, v in arrays.items() if k.startswith(f"{name}/")}, name)
            network.to(memory_format=self.format)
        self.average.load_state_dict(self.generator.state_dict())
        self.average.to(memory_format=self.format)
        betas = settings["betas"]
        rates = settings["rates"]
        self.optimizers = {
            name: torch.optim.Adam(network.parameters(), lr=rates[name], betas=betas, eps=1e-7, fused=True)
            for name, network in networks.items()
        }
        self.decay = settings["ema_decay"]
        self.batches = [
            {
                key: torch.tensor(arrays[f"batch{index}/{key}"])
                for key in ("images", "labels", "latents1", "labels1", "latents2", "labels2")
            }
            for index in range(settings["batches"])
        ]
        for batch in self.batches:
            images = batch["images"].permute(0, 3, 1, 2)
            batch["images"] = images.contiguous(memory_format=self.format)
        self.done = 0

    def step(self) -> list[float]:
        """One update of each network and of the average.

        Returns:
            Losses of discriminator and generator, then the norms of their gradients.
        """
        batch = self.batches[self.done % len(self.batches)]
        generator, discriminator = self.generator, self.discriminator
        power_iterations(generator, False)
        with torch.no_grad():
            fakes = generator(batch["latents1"], batch["labels1"])
        power_iterations(discriminator, True)
        # Interleaved or in a row is the same to networks that see each image by itself.
        both = torch.cat([batch["images"], fakes]).contiguous(memory_format=self.format)
        logits = discriminator(both, torch.cat([batch["labels"], batch["labels1"]]))
        real, fake = logits.chunk(2)
        discriminator_loss = functional.relu(1.0 - real).mean() + functional.relu(1.0 + fake).mean()
        self.optimizers["discriminator"].zero_grad()
        discriminator_loss.backward()
        discriminator_norm = gradient_norm(discriminator)
        self.optimizers["discriminator"].step()

        power_iterations(generator, True)
        power_iterations(discriminator, False)
        discriminator.requires_grad_(False)
        generator_loss = -discriminator(generator(batch["latents2"], batch["labels2"]), batch["labels2"]).mean()
        self.optimizers["generator"].zero_grad()
        generator_loss.backward()
        generator_norm = gradient_norm(generator)
        self.optimizers["generator"].step()
        discriminator.requires_grad_(True)

        decay = min(self.decay, (1.0 + self.done) / (10.0 + self.done))
        with torch.no_grad():
            pairs = list(zip(self.average.parameters(), generator.parameters()))
            pairs += [p for p in zip(self.average.buffers(), generator.buffers()) if p[0].is_floating_point()]
            torch._foreach_lerp_([a for a, _ in pairs], [g.detach() for _, g in pairs], 1.0 - decay)
        self.done += 1
        numbers = (discriminator_loss, generator_loss, discriminator_norm, generator_norm)
        return [float(number.detach()) for number in numbers]


def gradient_norm(network: nn.Module) -> torch.Tensor:
    """Over all parameters, as the package's steps tell it too."""
    return nn.utils.get_total_norm([parameter.grad for parameter in network.parameters()])


def peak_mib() -> float:
    """The most memory this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    """Answers until the requests end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--channels_last", action="store_true")
    options = parser.parse_args()

    def answer(**message: Any) -> None:
        print(json.dumps(message), flush=True)

    try:
        trainer = Trainer(options.folder, options.channels_last)
    except ValueError as error:
        answer(refused=str(error))
        return
    counts = {
        name: sum(p.numel() for p in getattr(trainer, name).parameters()) for name in ("generator", "discriminator")
    }
    answer(torch=torch.__version__, threads=torch.get_num_threads(), parameters=counts)
    for line in sys.stdin:
        count = len(trainer.batches) if line.strip() == "check" else int(line)
        losses = [trainer.step() for _ in range(count)]
        answer(losses=losses if line.strip() == "check" else losses[-1:], peak_mib=peak_mib())


if __name__ == "__main__":
    main()
