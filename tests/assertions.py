"""Statistical assertions with a known false-alarm rate, demanded power and calibrated errors."""

import numpy as np


def assert_consistent(
    value: float, stderr: float, truth: float, *, resolve: float, z_max: float = 5.0
) -> None:
    """Require ``value`` within z_max errors of ``truth``, and errors that could see ``resolve``.

    At z_max = 5 a correct program fails with probability 6e-7 per assertion.
    """
    z = (value - truth) / stderr
    assert abs(z) < z_max, f"{value:.5f} ± {stderr:.5f} vs {truth:.5f}: z = {z:.1f}"
    assert z_max * stderr < resolve, f"no power: {z_max} x {stderr:.3g} >= {resolve:.3g}"


def assert_calibrated(z: np.ndarray, *, z_max: float = 5.0) -> None:
    """Require z-scores of independent replicas to have mean 0 and variance 1.

    Judging the variance catches error bars that are too large as well as too small.
    """
    z = np.asarray(z)
    z_mean = z.mean() * np.sqrt(z.size)
    z_variance = (z.var(ddof=1) - 1.0) / np.sqrt(2.0 / (z.size - 1))
    assert abs(z_mean) < z_max, f"mean of {z.size} z-scores {z.mean():.2f}: z = {z_mean:.1f}"
    assert abs(z_variance) < z_max, f"their variance {z.var(ddof=1):.2f}: z = {z_variance:.1f}"
