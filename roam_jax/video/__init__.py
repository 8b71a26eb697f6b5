"""Frames in, boxes and annotated video out: everything between a file, folder or camera and the tracker.

`source` reads frames, `select` lets the user draw a box, `draw` paints results onto a frame, `formats` knows the text
formats, `sink` writes them as tracking goes on, `errors` holds the exit codes. Nothing here imports jax.
"""
