"""VOT: its supervised protocol, regions and scores, the workspace of its toolkit, and the client that it starts.

`python -m roam_jax.evaluation.vot` is the client.
"""
