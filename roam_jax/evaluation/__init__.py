"""How well a tracker does: metrics of the usual benchmarks, and a runner of trackers over sequences."""
