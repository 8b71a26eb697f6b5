"""Readers of data sets in the layout in which they are downloaded: one module per family, one function per data set.

A reader gives a list of `Sequence`s and opens nothing but annotations; a `DataError` says in one sentence what it
expected, and where. It looks at files through a `Tree`, which remembers what an index of the result depends on.
`roam_jax.data.layouts` has the readers by name.

What the numbers of an annotation mean differs. Boxes leave the readers in continuous coordinates in which pixel
(row i, column j) covers [j, j + 1) x [i, i + 1); the table says how they come there.

| data set     | first pixel | a box is            | absent (box NaN) | not visible                 | follows         |
|--------------|-------------|---------------------|------------------|-----------------------------|-----------------|
| OTB          | 1           | x,y,w,h             | -                | -                           | MATLAB toolkit  |
| TColor-128   | 1           | x,y,w,h             | -                | -                           | as OTB          |
| UAV123, 20L  | 1           | x,y,w,h             | NaN              | -                           | as OTB          |
| NfS          | 0           | left,top,right,bot  | -                | flag `lost`                 | got10k toolkit  |
| VOT          | 0           | polygon, x,y,w,h    | nan, empty mask  | -                           | see `vot.py`    |
| DAVIS        | 0           | mask                | empty mask       | -                           | tight box       |
| LaSOT        | 0           | x,y,w,h             | 0,0,0,0          | full_occlusion, out_of_view | got10k toolkit  |
| GOT-10k      | 0           | x,y,w,h             | -                | absence                     | its toolkit     |
| TrackingNet  | 0           | x,y,w,h             | -                | -                           | its toolkit     |
| ImageNet     | 0           | xmin..xmax, both in | no object there  | -                           | development kit |
| COCO         | 0           | x,y,w,h             | -                | -                           | its API         |
| own          | 0           | x,y,w,h             | nan, or zeros    | -                           | -               |

Everywhere a box without width or height counts as absent. The got10k toolkit does not shift the boxes of OTB,
TColor-128 and UAV123: scores are the same, as truth and result are shifted alike; results for the toolkits of these
data sets have to be written 1-based (`layouts.Reader.origin`). For LaSOT nothing is documented; those who use it do not
shift.
"""
