"""What each benchmark wants: what its result files look like, which frames count, and how it takes means."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from roam_jax.data.layouts import LAYOUTS

PaperFigures = dict[str, dict[str, float]]
"""tracker -> column of the table -> the paper's figure"""


@dataclass(frozen=True)
class Protocol:
    """Rules of one benchmark."""

    family: str = ""
    """start of the names of its data sets: `otb` of otb2013 and otb2015"""
    origin: float = 0.0
    """coordinate of the first pixel in its result files: as in its annotations"""
    files: Literal["flat", "folders"] = "flat"
    """flat: NAME.txt and times/NAME_time.txt; folders: NAME/NAME_001.txt and NAME/NAME_time.txt"""
    submission: bool = False
    """its server takes a zip file of them"""
    pooled: bool = False
    """AO and SR are means over all frames, not over sequences"""
    confined: bool = False
    """AO and SR are of boxes confined to the image"""
    absent_is_lost: bool = False
    """frames without the object are in the number of frames that the curves are parts of"""
    ranked_by: str = "AUC"
    """column that trackers are ordered by"""
    paper_on: str = ""
    """what the paper's figures were measured on"""
    paper: PaperFigures = field(default_factory=dict)
    """the paper's figures (Section 6), where it prints numbers"""


PROTOCOLS = (
    # 681 and 680 are printed in Section 6.1; the other values of Figure 3 are only drawn
    Protocol(
        "otb",
        paper_on="all of OTB-2015",
        paper={"ROAM": {"AUC": 0.681}, "ROAM++": {"AUC": 0.680}},
    ),
    # Figure 4 prints no numbers
    Protocol("lasot", absent_is_lost=True),
    Protocol(
        "got10k",
        files="folders",
        submission=True,
        pooled=True,
        confined=True,
        ranked_by="AO",
        paper_on="GOT-10k test, Table 2",
        paper={
            "ROAM": {"AO": 0.436, "SR.50": 0.466, "SR.75": 0.164},
            "ROAM++": {"AO": 0.465, "SR.50": 0.532, "SR.75": 0.236},
        },
    ),
    Protocol(
        "trackingnet",
        submission=True,
        paper_on="TrackingNet test, Table 3",
        paper={
            "ROAM": {"AUC": 0.620, "P@20": 0.547, "NP": 0.695},
            "ROAM++": {"AUC": 0.670, "P@20": 0.623, "NP": 0.754},
        },
    ),
)


def protocol_of(dataset: str) -> Protocol:
    """Rules for the data set of that name; plain ones for those that have no rules of their own."""
    chosen = next((protocol for protocol in PROTOCOLS if dataset.startswith(protocol.family)), Protocol(dataset))
    return replace(chosen, origin=LAYOUTS[dataset].origin) if dataset in LAYOUTS else chosen
