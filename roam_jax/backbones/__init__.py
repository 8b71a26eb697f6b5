"""Feature extractors: a pretrained trunk, its learned last stages, a small learned neck; one registry line each.

A trunk is made by a file of its own (`Trunk`); a line of `TRUNKS` gives it a name, and so does `register_trunk` for one
that is not in the package. The networks are linen modules. Neither they nor flax are imported before they are needed:
a tracker whose programs are already compiled starts without them.
"""

from __future__ import annotations

from roam_jax.backbones.backbone import Backbone, load_trunk, make_backbone
from roam_jax.backbones.registry import register_trunk
from roam_jax.backbones.trunk import Trunk

__all__ = ["Backbone", "Trunk", "load_trunk", "make_backbone", "register_trunk"]
