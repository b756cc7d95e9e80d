"""What the network has to beat on unseen drives: the mean of the targets, and ridge regression on small grey pictures.

Never here: torch, the network, metrics.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivelake.learning.data import Samples

__all__ = ["LAMBDAS", "Ridge", "fit_mean", "fit_ridge"]

GREY_HEIGHT, GREY_WIDTH = 30, 40
# ITU-R BT.601 luma
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)
LAMBDAS = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0)
BLOCK_ROWS = 512
# A pixel that never changes has no scale; below 1/4 of a grey level it counts as constant.
DEVIATION_MIN = 1e-3

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ridge:
    """A linear map from standardised grey pixels to the targets.

    Attributes:
        pixel_mean, pixel_std: (P,) of the train split, grey in 0..1.
        weights: (P, T), one column a target.
        intercept: (T,) physical units.
        penalty: (T,) the lambda chosen on validation, one a target.

    """

    pixel_mean: Matrix
    pixel_std: Matrix
    weights: Matrix
    intercept: Matrix
    penalty: Matrix

    def predict(self, samples: Samples) -> npt.NDArray[np.float32]:
        """Predict (N, T) float32 in physical units."""
        predicted = np.empty_like(samples.targets)
        for block in samples.blocks(BLOCK_ROWS):
            standardised = (grey_pixels(samples.images[block]) - self.pixel_mean) / self.pixel_std
            predicted[block] = standardised @ self.weights + self.intercept
        return predicted


def fit_mean(train: Samples) -> npt.NDArray[np.float32]:
    """Take the (T,) mean of the train split: the best guess without a picture."""
    mean: npt.NDArray[np.float32] = train.targets.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def fit_ridge(train: Samples, validation: Samples) -> Ridge:
    """Fit ridge regression in closed form; lambda is the one of ``LAMBDAS`` with the least validation error, per target.

    Only sums over the samples are held (P x P), never the samples: Z'Z and Z'y of the standardised pixels follow from
    the sums of the raw ones (Hastie et al., The Elements of Statistical Learning, equation 3.44).
    """
    pixels = GREY_HEIGHT * GREY_WIDTH
    outputs, count = train.targets.shape[1], len(train)
    total, products, cross = np.zeros(pixels), np.zeros((pixels, pixels)), np.zeros((pixels, outputs))
    intercept = train.targets.mean(axis=0, dtype=np.float64)
    for block in train.blocks(BLOCK_ROWS):
        grey = grey_pixels(train.images[block])
        total += grey.sum(axis=0)
        products += grey.T @ grey
        cross += grey.T @ (train.targets[block] - intercept)
    mean = total / count
    covariance = products - count * np.outer(mean, mean)
    std = np.sqrt(np.maximum(np.diag(covariance) / count, 0))
    std[std < DEVIATION_MIN] = np.inf
    gram, moment = covariance / np.outer(std, std), cross / std[:, None]
    path = np.stack([np.linalg.solve(gram + penalty * np.eye(pixels), moment) for penalty in LAMBDAS])
    errors = np.zeros((len(LAMBDAS), outputs))
    for block in validation.blocks(BLOCK_ROWS):
        standardised = (grey_pixels(validation.images[block]) - mean) / std
        errors += np.square(standardised @ path + intercept - validation.targets[block]).sum(axis=1)
    best = errors.argmin(axis=0)
    weights = path[best, :, np.arange(outputs)].T
    return Ridge(mean, std, weights, intercept, np.array(LAMBDAS)[best])


def grey_pixels(images: npt.NDArray[np.uint8]) -> Matrix:
    """Average (N, H, W, 3) RGB over areas to (N, 1200) luma in 0..1, row by row of a 40 x 30 picture."""
    luma = images.astype(np.float32) @ (GREY_WEIGHTS / 255)
    down, across = _area_weights(images.shape[1], GREY_HEIGHT), _area_weights(images.shape[2], GREY_WIDTH)
    small = down @ luma.astype(np.float64) @ across.T
    flat: Matrix = small.reshape(len(images), -1)
    return flat


def _area_weights(size: int, wanted: int) -> Matrix:
    """Share of every source pixel in every wanted one along an axis, (wanted, size); rows sum to 1."""
    edges = np.arange(wanted + 1) * size / wanted
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(size)
    overlap: Matrix = np.clip(np.minimum(right, pixel + 1) - np.maximum(left, pixel), 0, None)
    return overlap * wanted / size
