"""Which transform a hold order blames."""

from gateway.errors import TransformError
from gateway.hold.settle import _blamed
from gateway.model.verdict import Transform, TransformKind
from gateway.transform import TransformFailed

LEGEND, ENCRYPT = (Transform(kind, f"rule-{kind}") for kind in (TransformKind.LEGEND, TransformKind.ENCRYPT))


def test_the_transform_that_failed_is_blamed() -> None:
    """Regression: the error names its transform, but the encryption was always blamed."""
    assert _blamed((LEGEND, ENCRYPT), TransformFailed("sealed", "d", LEGEND)) == LEGEND
    assert _blamed((LEGEND, ENCRYPT), TransformFailed("openssl", "d", ENCRYPT)) == ENCRYPT


def test_without_a_name_the_encryption_is_blamed_first() -> None:
    """What must never leave in clear comes first, whatever the order."""
    assert _blamed((LEGEND, ENCRYPT), TransformError("spool", "d")) == ENCRYPT
    assert _blamed((LEGEND,), TransformError("spool", "d")) == LEGEND
