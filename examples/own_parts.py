# ---
# jupyter: {jupytext: {text_representation: {extension: .py, format_name: percent}}}
# ---

# %% [markdown]
# # A trunk and an optimizer of your own
#
# Both get a name by one call, and from there on the configuration, the training, checkpoints and the tracker know them.
# Here a trunk of a dozen lines and an optimizer that is a learned Rprop are meta-trained for some steps, on clips that
# are drawn. It needs `pip install "roam-jax[train,plots,notebook]"`.

# %%
import json
import os
import tempfile
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display

import roam_jax
from roam_jax import Trunk, load_checkpoint, register_optimizer, register_trunk, train
from roam_jax.checkpoints import Checkpoint
from roam_jax.core.optimizer import CoordinateOptimizer, count
from roam_jax.data.synthetic import synthetic_sequence
from roam_jax.evaluation.metrics import iou_xywh
from roam_jax.tracking.params import init_params, params_to_dict

# %% [markdown]
# ## The trunk
# It maps RGB patches (b, p, p, 3) to a tuple of levels (b, p / stride, p / stride, c), the finest first. What is frozen
# is one linen module; what meta-training may learn is another one, the `top`, which begins where the first ends. A
# trunk with pretrained weights gives a function `load`; this one begins with random ones.


# %%
class Bottom(nn.Module):
    """Frozen: random 5x5 filters."""

    @nn.compact
    def __call__(self, patches):
        """Stride 4."""
        x = patches.astype(jnp.float32) / 127.5 - 1
        x = nn.relu(nn.Conv(12, (5, 5), strides=2)(x))
        return (nn.relu(nn.Conv(24, (5, 5), strides=2)(x)),)


class Top(nn.Module):
    """Learned: a residual block."""

    @nn.compact
    def __call__(self, levels):
        """Of the same size."""
        (x,) = levels
        return (x + nn.Conv(24, (3, 3), kernel_init=nn.initializers.zeros)(nn.relu(nn.Conv(24, (1, 1))(x))),)


register_trunk("mine", lambda config: Trunk(Bottom(), stride=4, top=Top() if config.backbone.tuned_stages else None))

# %% [markdown]
# ## The optimizer
# Three functions. `apply` sees the stack of Eq. 10 for all n coordinates of theta: the last learning rates, gradients,
# parameters, and the loss, as an array (4, n). It gives the new learning rates, (n,), and its state. This one lets a
# rate grow where the gradient's sign stays, and shrink where it changes; by how much is learned.


# %%
def rprop(config):
    """Each rate is multiplied by exp(grow) or exp(-shrink)."""
    del config

    def init(theta, *, key):
        del theta, key
        return {"grow": jnp.array(0.1), "shrink": jnp.array(0.1)}

    def start(theta):
        return jnp.zeros((1, count(theta)))  # signs of the last gradients

    def apply(omega, inputs, signs):
        rates, gradients = inputs[0], inputs[1]
        agree = jnp.sign(gradients) * signs[0]
        factor = jnp.where(agree >= 0, omega["grow"] * agree, omega["shrink"] * agree)
        return rates * jnp.exp(factor), jnp.sign(gradients)[None]

    return CoordinateOptimizer(init, start, apply)


register_optimizer("rprop", rprop)

# %% [markdown]
# ## Some steps of meta-training
# The command in Python. It must be the first thing that starts JAX in the process, as it says how many devices there
# are. `--data synthetic` draws its clips; `--config.NAME` is any setting. Signs can agree from the third update of a
# clip on, so clips have four.

# %%
STEPS = int(os.environ.get("STEPS", "400"))
run = Path(tempfile.mkdtemp()) / "run"
code = train.main(
    f"""--preset tiny --data synthetic --output {run} --steps {STEPS} --devices 1 --no-tensorboard
    --config.backbone.name mine --config.backbone.tuned-stages 1 --config.meta.top-rate 3e-3
    --config.optimizer.kind rprop --config.meta.optimizer-rate 1e-2 --config.unroll.updates 4
    --config.meta.model-rate 3e-3 --config.meta.lambda-rate 1e-2""".split()
)
assert code == 0

# %%
steps = [json.loads(line)["scalars"] for line in (run / "log.jsonl").read_text().splitlines()]
losses = np.array([step["train/loss"] for step in steps if "train/loss" in step])
span = max(1, len(losses) // 10)
plt.plot(losses, alpha=0.3, label="of a step's two clips")
plt.plot(np.convolve(losses, np.ones(span) / span, "valid"), label=f"mean of {span}")
plt.xlabel("step of meta-training")
plt.ylabel("meta loss")
plt.legend()
plt.show()
print(f"meta loss {losses[:span].mean():.4f} -> {losses[-span:].mean():.4f}")

# %% [markdown]
# ## What was learned
# The checkpoint keeps the names, so the tracker can be made wherever they are registered. Beside it the same tracker
# as it was before training, on clips that were not learned from. Some hundred steps on random filters make it better,
# not good: the shipped tracker has learned for thousands of steps, on a pretrained trunk.

# %%
trained = load_checkpoint(run / "tracker")
omega = trained.params["omega"]
print(f"a rate grows by {np.exp(omega['grow']):.3f} and shrinks by {np.exp(-omega['shrink']):.3f}")
untrained = params_to_dict(init_params(trained.config, key=jax.random.key(0)))
trackers = {"trained": trained, "untrained": Checkpoint(trained.config, untrained, "random")}


def overlap(checkpoint, seed):
    """Mean IoU with the true boxes, and the result."""
    sequence = synthetic_sequence(seed, length=40)
    result = roam_jax.track(sequence.frames.get(range(40)), sequence.boxes_xywh[0], checkpoint=checkpoint)
    return float(np.mean(iou_xywh(result.boxes_xywh[:, 0], sequence.boxes_xywh))), result


for name, checkpoint in trackers.items():
    overlaps = [overlap(checkpoint, seed)[0] for seed in range(1000, 1008)]
    print(f"{name}: mean IoU {np.mean(overlaps):.3f} on 8 clips, {np.round(overlaps, 2)}")

# %%
display(overlap(trained, 1000)[1])
