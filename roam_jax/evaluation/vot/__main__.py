"""`python -m roam_jax.evaluation.vot`: what the VOT toolkit starts."""

import sys

from roam_jax.evaluation.vot.client import main

sys.exit(main())
