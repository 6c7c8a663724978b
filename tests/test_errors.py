import numpy as np

from helmflow.errors import LONGEST, InputError


def test_what_came_is_one_short_line():
    for got in (np.zeros((40, 40)), np.zeros((40, 40)).tolist(), "x\n" * 5000):
        text = str(InputError("boxes", "a box", got))
        assert text.startswith("boxes: expected a box, got ")
        assert "\n" not in text
        assert len(text) < LONGEST + 40
    assert str(InputError("n", "2", 1)) == "n: expected 2, got 1"
