"""The web page: `python -m roam_jax.app`. What it does is in `job.py`, which knows no page."""
