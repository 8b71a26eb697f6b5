"""The search patch: its region of interest, its coordinates, and how it is cut out of an image (Section 5)."""
