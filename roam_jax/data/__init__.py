"""Sequences of frames with boxes, and the clips that meta-training learns from (Section 5)."""
