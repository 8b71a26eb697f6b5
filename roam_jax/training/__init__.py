"""Meta-training (Algorithm 1) on clips."""
