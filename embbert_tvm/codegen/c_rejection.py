"""The C by which a model of one label says "none of these"; its semantics are those of rejection.py."""

from __future__ import annotations

from embbert_tvm.codegen.c_expressions import real
from embbert_tvm.codegen.templates import template
from embbert_tvm.rejection import (
    DISTANCE,
    ENERGY,
    KNOWN_HEAD,
    LOGISTIC,
    MAHALANOBIS,
    MAX_SOFTMAX,
    OF_A_VECTOR,
    Rejection,
)

_KNOWN = {
    MAX_SOFTMAX: template("known_largest.c.in"),
    ENERGY: template("known_energy.c.in"),
    DISTANCE: template("known_distance.c.in"),
    MAHALANOBIS: template("known_mahalanobis.c.in"),
    LOGISTIC: template("known_mahalanobis.c.in"),
}
_ALONG = template("known_along.c.in")
_NGRAMS = template("known_ngrams.c.in")
_SCORES = template("scores_calibrated.c.in").rstrip("\n")

_MEANS = template("class_means.c.in").rstrip("\n")
_MEANS_IN_BLOB = template("class_means_in_blob.c.in").rstrip("\n")

# Of the header's placeholders.
RESULT_COMMENTS = {
    "label_is": "index of the largest logit, the first of equals, or @UPPER@_NONE",
    "scores": "softmax of the logits / temperature: each 0 to 1, together 1; of @UPPER@_NONE 1 less the largest",
}


def scores(rejection: Rejection, in_blob: bool = False) -> str:
    """The C, a template, that fills in scores and may take the label back. in_blob: whether the numbers lie in one."""
    found = _SCORES.replace("@KNOWN@", _KNOWN[rejection.score].rstrip("\n"))
    if in_blob:
        for number, name in enumerate(("INVERSE", "THRESHOLD", "MOST")):
            found = found.replace(f"@{name}@", f"model->blob->none_of_these[{number}]")
        return found.replace("@MEANS@", _MEANS_IN_BLOB).replace("means[i][j]", "means[i * @UPPER@_CLASSES + j]")
    if rejection.direction is not None:
        along = _ALONG.replace("@DIRECTION@", ", ".join(map(str, rejection.direction.numbers)))
        along = along.replace("@DIRECTION_STEP@", real(rejection.direction.step))
        if rejection.direction.ngrams is not None:
            along += _NGRAMS.replace("@NGRAMS@", real(rejection.direction.ngrams))
        found = found.replace("@MOST@", "most").replace("@MOST_ALONG@", along)
    found = found.replace("@MOST_ALONG@", "").replace("@INVERSE@", real(1 / rejection.temperature))
    found = found.replace("@THRESHOLD@", real(rejection.threshold)).replace("@MOST@", real(-rejection.threshold))
    number = real if rejection.step is None else lambda value: str(int(value))
    rows = [f"        {{{', '.join(map(number, row))}}}," for row in rejection.means or ()]
    found = found.replace("@STEP@", real(rejection.step or 1.0)).replace("@HEAD@", KNOWN_HEAD.upper())
    if rejection.score in OF_A_VECTOR:  # whose templates have the table themselves
        return found.replace("@MEANS@", "\n".join(rows))
    return found.replace("@MEANS@", _MEANS.replace("@ROWS@", "\n".join(rows)))
