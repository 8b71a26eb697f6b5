"""What is ours and not the paper's: each file says what it replaces, why, and what was measured.

`roam_jax.method` puts these into the places that the paper's functions leave open; `core` imports none of them.
"""
