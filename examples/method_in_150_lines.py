# ---
# jupyter: {jupytext: {text_representation: {extension: .py, format_name: percent}}}
# ---

# %% [markdown]
# # The method in 150 lines
#
# ROAM on a clip that is drawn, with the preset `tiny`: features, response, Eq. 9 to 11, the meta-gradient.
# `python examples/method_in_150_lines.py FOLDER` writes the pictures there; as a notebook (`jupytext --to ipynb`) they
# are shown. It needs `pip install "roam-jax[plots]"`.

# %%
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from roam_jax import make_backbone, make_method, presets
from roam_jax.core.boxes import xywh_to_cxcywh
from roam_jax.core.losses import update_loss
from roam_jax.core.meta import Episode, unroll
from roam_jax.core.model import predict
from roam_jax.core.samples import filter_size_of, make_samples
from roam_jax.core.scaling import draw_scale
from roam_jax.core.update import gradient_step, update
from roam_jax.core.warp import warp
from roam_jax.data.synthetic import synthetic_sequence
from roam_jax.patches.crop import crop_device
from roam_jax.patches.geometry import box_to_patch, roi_of_box
from roam_jax.tracking.params import init_params

FOLDER = Path(sys.argv[1]) if len(sys.argv) == 2 else None  # a kernel has other arguments


def show(name, **pictures):
    """Maps and pictures side by side."""
    _, axes = plt.subplots(1, len(pictures), figsize=(3 * len(pictures), 3))
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(np.asarray(picture))
        axis.set_title(title.replace("_", " "))
    finish(name)


def finish(name):
    """Write the figure, or show it."""
    if FOLDER:
        FOLDER.mkdir(parents=True, exist_ok=True)
        plt.savefig(FOLDER / f"{name}.png", bbox_inches="tight")
    else:
        plt.show()
    plt.close()


# %% [markdown]
# ## A clip, and what the tracker sees of it
# The search patch is a square of gamma sqrt(w h) around where the object was (Section 5). Boxes in it are
# (cx, cy, w, h) in patch pixels from the patch's centre. Here every patch is centred on the first box.

# %%
config = presets.tiny()
sequence = synthetic_sequence(0, length=12)
boxes_px = xywh_to_cxcywh(jnp.asarray(sequence.boxes_xywh, jnp.float32))
roi, side = roi_of_box(boxes_px[0], config.model.roi_scale), config.model.patch_size
crop = jax.jit(lambda image: crop_device(image, roi, side))
patches = jnp.stack([crop(image) for image in sequence.frames.get(range(12))])
boxes = jax.vmap(lambda box: box_to_patch(box, roi, side))(boxes_px)

# %% [markdown]
# ## Features and samples
# A frozen trunk gives a map of unit mean square; with `tiny` it is three random convolutions. A sample is a feature
# map, its label map (Eq. 8) and its box.

# %%
backbone, method = make_backbone(config), make_method(config)
params = init_params(config, key=jax.random.key(0))
samples = make_samples(jax.jit(backbone.features)(params.backbone, patches), boxes, method.geometry)
first, later, test = (jax.tree.map(lambda x, s=s: x[s], samples) for s in (slice(3), slice(3, 9), slice(9, 12)))
show("features", patch=patches[0] / 255, a_channel_of_F=first.features[0, ..., 0], label_M=first.labels[0])

# %% [markdown]
# ## The model: two filters whose size follows the object (Eq. 1 to 6)

# %%
theta0, phi = params.theta0, filter_size_of(boxes[0, 2:], method.geometry)
print(f"phi = (f_r, f_c) = {phi} cells; theta has {ravel_pytree(theta0)[0].size} coordinates")
see = jax.jit(lambda theta, seen: predict(theta, seen.features, phi, method.geometry).response[0])
warped = warp(theta0.cf.filters, phi, method.geometry.canvas)
show("model", theta_cf=theta0.cf.filters[..., 0, 0], warped=warped[..., 0, 0], response_before=see(theta0, first))

# %% [markdown]
# ## The first-frame step: Eq. 9 with lambda0, on the gradient of the update loss (Eq. 12)

# %%
loss = jax.jit(lambda theta, seen: update_loss(theta, seen, phi, method.loss))  # (Eq. 12)
rates0 = method.first_rates(params.lambda0)
theta1 = gradient_step(theta0, rates0, jax.grad(loss)(theta0, first))  # (Eq. 9)
print(f"update loss {loss(theta0, first):.4f} -> {loss(theta1, first):.4f}")
show("first_step", label=first.labels[0], response_before=see(theta0, first), after=see(theta1, first))

# %% [markdown]
# ## Recurrent updates: the LSTM emits a rate for every coordinate (Eq. 10, 11), then Eq. 9

# %%
recurrent = jax.jit(lambda omega, state: update(method.optimizer, omega, state, lambda theta: loss(theta, later)))
state, _ = method.start(params.meta, theta0, first, phi)
for _ in range(3):
    state, value = recurrent(params.omega, state)
    print(f"update loss before the update {value:.4f}")
plt.hist(np.log10(ravel_pytree(state.rates)[0]), 50)
finish("log10_of_the_learning_rates")

# %% [markdown]
# ## The meta-gradient: Algorithm 1
# T updates of one model, each tested on future frames (Eq. 13); the gradient of their mean (Eq. 14) with respect to
# theta0, lambda0 and omega. Random filter scaling (Eq. 15) shows the optimizer other magnitudes each time.

# %%
twice = jax.tree.map(lambda x: jnp.stack([x, x]), test)
episode = Episode(first, jax.tree.map(lambda x: x[None], later), tests=twice, phis=jnp.stack([phi, phi]))


@jax.jit
def meta_gradient(meta, key):
    """Averaged meta loss of one clip, and its gradient."""
    scale = draw_scale(meta.theta0, 0.5, 0.4, key=key)
    return jax.value_and_grad(lambda meta: unroll(meta, episode, method, scale).total)(meta)


meta, optimizer, curve = params.meta, optax.adam(3e-3), []
opt_state, step = optimizer.init(meta), jax.jit(optimizer.update)
for number in range(60):
    value, gradient = meta_gradient(meta, jax.random.key(number))
    updates, opt_state = step(gradient, opt_state)
    meta = optax.apply_updates(meta, updates)
    curve.append(float(value))
plt.plot(curve)
finish("meta_loss")
print(f"averaged meta loss {np.mean(curve[:5]):.4f} -> {np.mean(curve[-5:]):.4f}")

# %% [markdown]
# ## What was learned: the response to a later frame after one first-frame step

# %%
learned, _ = method.start(meta, meta.theta0, first, phi)
show("learned", label=test.labels[0], untrained=see(theta1, test), meta_trained=see(learned.theta, test))
