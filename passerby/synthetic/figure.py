"""A person at one moment as a mesh."""

import math
import random

from passerby.synthetic.anatomy import hairdo, head
from passerby.synthetic.body import LEFT, RIGHT, Pose, build_skeleton
from passerby.synthetic.carried import load
from passerby.synthetic.garments import dress_up
from passerby.synthetic.headwear import put_on_head
from passerby.synthetic.look import Look
from passerby.synthetic.mesh import Mesh, build_mesh
from passerby.synthetic.people import ACTIONS, Person


def draw_pose(person: Person, look: Look, source: random.Random) -> Pose:
    """Draw what a person does at the moment of one image."""
    words = person.attributes
    slow = (
        look.age == "older"
        or words["bag_kind"] == "suitcase"
        or words["umbrella"] == "yes"
        or words["cellphone"] == "yes"
    )
    action = source.choices(ACTIONS, (5, 6, 0 if slow else 2))[0]
    tasks = ["swing", "swing"]
    near, far = look.side, 1 - look.side
    if words["bag_kind"] in ("handbag", "shopping-bag", "suitcase"):
        tasks[far] = "hang"
    if words["cellphone_use"] != "none":
        tasks[near] = {"talking": "talk", "looking": "look"}[words["cellphone_use"]]
    if words["umbrella"] == "yes":
        free = far if tasks[near] != "swing" else near
        tasks[free] = "hold"
    return Pose(
        action=action,
        phase=source.uniform(0, 2 * math.pi),
        head_yaw=source.uniform(-0.22, 0.22),
        head_pitch=source.uniform(-0.06, 0.10) + (0.3 if "look" in tasks else 0.0),
        weight_shift=source.uniform(-1, 1),
        arms=(tasks[LEFT], tasks[RIGHT]),
    )


def build_figure(person: Person, look: Look, pose: Pose) -> Mesh:
    """Build the mesh of a person in a pose, feet on the ground plane."""
    words = person.attributes
    skeleton = build_skeleton(look.body, pose)
    parts = dress_up(look, person, pose, skeleton)
    parts += head(look, skeleton)
    parts += hairdo(look, skeleton, is_covered=words["hat"] == "yes", is_hooded=words["upper_garment"] == "hoodie")
    parts += put_on_head(look, person, skeleton)
    parts += load(look, person, pose, skeleton)
    return build_mesh(parts)
