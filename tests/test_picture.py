"""The picture of the comparison with the peers (bench/picture.py)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"


@pytest.fixture(scope="module")
def picture():
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location("picture", BENCH / "picture.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCH))
    return module


def test_a_ratio_over_one_is_in_our_favour(picture):
    assert picture.ratios([300.0, 400.0, 500.0], [90.0, 100.0, 400.0], more=True) == (3, 4, 5)
    assert picture.ratios([50.0, 100.0, 200.0], [200.0], more=False) == (1, 2, 4)


def test_only_what_was_measured_of_both_is_drawn(picture):
    results = {"postoffice": [{"post10": 1000.0, "login": 5.0}], "a <peer>": [{"post10": 250.0}]}
    facts = {"results": results, "cores": 2, "disk": "ext4 & more"}
    root = ElementTree.fromstring(picture.draw(facts))
    texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "4.0" in texts
    assert "times as good as a <peer>" in texts
    assert not [text for text in texts if "login" in text]


def test_the_scale_ends_at_its_ends(picture):
    assert picture.at(0.01) == picture.LEFT
    assert picture.at(1000) == picture.LEFT + picture.WIDTH


def test_a_run_draws_it_in_the_end(picture, tmp_path, monkeypatch):
    """``bench/run.py --plot``: with figures of us and of a peer, and not before."""
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location("bench_run", BENCH / "run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)

    class Ours:
        name = "postoffice"

    class Pair:
        name = "Postfix + Dovecot"

    drawing = tmp_path / "performance.svg"
    results = run.Results({"ours": Ours, "pair": Pair}, ["post10"], None, drawing)
    results.facts = {"cores": 2, "disk": "ext4"}
    results.add(Ours, {"post10": 1000.0})
    results.draw()
    assert not drawing.exists()
    results.add(Pair, {"post10": 250.0})
    results.draw()
    [title] = ElementTree.parse(drawing).getroot().iter("{http://www.w3.org/2000/svg}title")
    assert title.text == "How many times as good as Postfix + Dovecot the post office is"
    assert "4.0" in drawing.read_text()
