"""The figures of docs/architecture.md are what the imports are; a launch test holds that of topics."""

import architecture
import pytest


@pytest.mark.parametrize(("name", "inside"), [("layers", ""), ("rooms of nodes", "nodes")])
def test_a_figure_of_layers_is_what_the_imports_are(name, inside):
    page = architecture.TARGET.read_text()
    assert architecture.figure(page, name) == architecture.layers(inside), "run make docs"


def test_an_arrow_that_follows_from_others_is_left_out():
    arrows = [line.split(" --> ") for line in architecture.layers().splitlines() if "-->" in line]
    below = {room.strip(): {b for a, b in arrows if a.strip() == room.strip()} for room, _ in arrows}
    for room, direct in below.items():
        for other in direct:
            assert not below.get(other, set()) & direct, f"{room} --> {other}"


def test_topics_flow_from_who_says_to_who_hears_and_the_rest_is_of_people():
    nothing = {kind: set() for kind in ("publishes", "hears", "answers", "asks", "executes", "calls")}
    eye = nothing | {"publishes": {"/image", "/shown", "/rosout"}, "answers": {"/eye/get_parameters", "/eye/look"}}
    mind = nothing | {"hears": {"/image", "/goal"}, "executes": {"/mind/go"}}
    arrows = [line.strip() for line in architecture.topics({"eye": eye, "mind": mind}).splitlines() if "-->" in line]
    assert arrows == [
        'eye -- "/image" --> mind',
        'eye -- "/shown" --> people',
        'people -- "/eye/look" --> eye',
        'people -- "/goal<br/>/mind/go" --> mind',
    ]


def test_a_figure_is_put_between_its_comments():
    page = "a\n<!-- x: made by tools/architecture.py -->\nold\n<!-- end of x -->\nz"
    assert architecture.figure(architecture.replaced(page, "x", "new\nlines"), "x") == "new\nlines"
    assert architecture.replaced(page, "x", "old") == page
