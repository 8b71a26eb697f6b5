"""Frames in, boxes and annotated video out: everything between a file, folder or camera and the tracker.

`source` reads frames, `select` gives the first boxes and lets the user draw them, `follow` leads
trackers over the frames, `draw` paints results onto one, `formats` knows the text
formats, `sink` writes them as tracking goes on. Nothing here imports jax.
"""
