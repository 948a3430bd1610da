"""Scores of predictions that several chapters report."""

import torch
from torch import Tensor


def calibration_error(probabilities: Tensor, y: Tensor, bins: int = 15) -> float:
    """Expected calibration error in percent (Guo et al., 2017, arXiv 1706.04599).

    probabilities: (N, C); y: (N,) int64. The confidence (largest probability) is cut into ``bins`` of equal width; each
    bin counts with its share of the rows times |accuracy - mean confidence| in it. 0 for a calibrated classifier.
    """
    confidence, predicted = probabilities.double().max(1)
    # the interval of a bin is open below and closed above, so that a confidence of 1 falls into the last
    bin_of = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    surplus = confidence - (predicted == y).double()
    totals = torch.zeros(bins, dtype=torch.float64, device=y.device).index_add_(0, bin_of, surplus)
    return 100 * (totals.abs().sum() / len(y)).item()
