"""A model of hashed n-grams with random weights, for tests of what is made of one."""

import numpy as np

from embbert_tvm.data.ngrams import NgramFeatures
from embbert_tvm.models.ngrams import NgramModel, outputs_of


def model_of(labels, rank=0, buckets=2000, seed=0):
    """rank: columns that are projected to the outputs; 0: each column is one."""
    rng = np.random.default_rng(seed)
    outputs = outputs_of(len(labels))
    table = rng.integers(-127, 128, (buckets, rank or outputs)).astype(np.int8)
    bias = rng.standard_normal(outputs).astype(np.float32)
    projection = rng.integers(-127, 128, (rank, outputs)).astype(np.int8) if rank else None
    return NgramModel(NgramFeatures(buckets), tuple(labels), table, 0.002 if rank else 0.02, bias, projection)
