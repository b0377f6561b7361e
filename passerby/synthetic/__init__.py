"""Synthetic pedestrians with known attributes: figures of lofted tubes, drawn with numpy from any side, in any weather."""

from passerby.synthetic.files import Settings, SyntheticReport
from passerby.synthetic.layouts import write_market, write_pedes
from passerby.synthetic.people import ACTIONS, FINEGPR_NAMES, WORDS, Person, draw_person
from passerby.synthetic.render import RENDERER_VERSION, Rendering, render
from passerby.synthetic.scene import View
from passerby.synthetic.write import draw_views, write_finegpr

WRITERS = {"finegpr": write_finegpr, "market": write_market, "pedes": write_pedes}
"""By the name of a layout."""

__all__ = [
    "ACTIONS",
    "FINEGPR_NAMES",
    "RENDERER_VERSION",
    "WORDS",
    "WRITERS",
    "Person",
    "Rendering",
    "Settings",
    "SyntheticReport",
    "View",
    "draw_person",
    "draw_views",
    "render",
    "write_finegpr",
    "write_market",
    "write_pedes",
]
