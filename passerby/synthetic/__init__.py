"""Synthetic pedestrians with known attributes: figures of lofted tubes, drawn with numpy from any side, in any weather."""

from passerby.synthetic.people import ACTIONS, FINEGPR_NAMES, WORDS, Person, draw_person
from passerby.synthetic.render import RENDERER_VERSION, Rendering, render
from passerby.synthetic.scene import View
from passerby.synthetic.write import SyntheticReport, draw_views, write_finegpr

__all__ = [
    "ACTIONS",
    "FINEGPR_NAMES",
    "RENDERER_VERSION",
    "WORDS",
    "Person",
    "Rendering",
    "SyntheticReport",
    "View",
    "draw_person",
    "draw_views",
    "render",
    "write_finegpr",
]
