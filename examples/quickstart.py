# ---
# jupyter: {jupytext: {text_representation: {extension: .py, format_name: percent}}}
# ---

# %% [markdown]
# # Track an object in a notebook
#
# A clip, the box around an object in its first frame, and where the object is in the others: as a video, as arrays,
# as a table. Then several objects, and boxes that are drawn with the mouse. It needs
# `pip install "roam-jax[plots,notebook]"`.

# %%
import os
from itertools import islice

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display

import roam_jax
from roam_jax.data.demo_clip import render_demo
from roam_jax.notebook import Tracking

# %% [markdown]
# ## One object
# Frames are RGB arrays here; `roam_jax.track("video.mp4", (120, 80, 60, 40))` takes a video file, a folder of pictures,
# or a sequence folder. A box is x, y, width, height in pixels, counted from 0. The clip is rendered: a sticker on a
# table, over which a wooden slat passes.

# %%
FRAMES = int(os.environ.get("FRAMES", "120"))
frames, true_boxes = render_demo()
frames = list(islice(frames, FRAMES))
result = roam_jax.track(frames, true_boxes[0])
display(result)

# %% [markdown]
# ## How sure it is
# `score` is the probability that the box is on the object; `lost` says that it was not found.

# %%
plt.figure(figsize=(9, 2.5))
plt.plot(result.frames, result.scores[:, 0], label="score")
plt.fill_between(result.frames, 0, 1, where=result.lost[:, 0], color="red", alpha=0.3, label="lost")
plt.xlabel("frame")
plt.ylim(0, 1.05)
plt.legend()
plt.show()
print(f"lost in {np.sum(result.lost)} of {len(result)} frames")

# %%
display(result.to_pandas().head())

# %% [markdown]
# `result.save("folder")` writes boxes, JSON lines and the video, and what other tools read:
# `result.save("folder", formats=["mot", "coco"])`.
#
# ## Several objects
# Each has a tracker of its own, which knows nothing of the others. The second sticker, at (373, 44, 69, 66), looks so
# much like the first that a tracker on it goes over to the first one where they cross: try it below, and correct it.

# %%
several = roam_jax.track(frames, boxes=[true_boxes[0], (263, 158, 78, 78)])  # the spoon too
display(several)
print(several.boxes_xywh.shape)

# %% [markdown]
# ## Boxes drawn with the mouse
# Draw a box on the frame below, and press "Track". Where it goes wrong, move the slider there, draw the right box and
# press "Track" again: the tracker learns from it and goes on from that frame. Any frame will do to start in, and for
# several objects choose "2 (new)" before you draw.

# %%
tracking = Tracking(frames)
display(tracking)

# %% [markdown]
# All of it can be done in Python, too; here for those who only read this. `tracking.result` is a result as above.

# %%
tracking.give(true_boxes[0], frame=0)
tracking.track()
tracking.wait()
late = len(frames) // 2
tracking.give(true_boxes[late], frame=late)  # a correction
tracking.track()
tracking.wait()
np.testing.assert_array_equal(tracking.result.boxes_xywh[late, 0], true_boxes[late])
display(tracking.result)
