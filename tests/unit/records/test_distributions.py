"""What is gathered is what would have been observed."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from gateway.metrics import Distribution, flush_distributions

_BOUNDS = (0.001, 0.5, 1.0, 60.0)


@given(st.lists(st.one_of(st.sampled_from((*_BOUNDS, 0.0, 1e9)), st.floats(0, 100)), max_size=20))
def test_gathered_observations_fill_the_same_buckets(amounts: list[float]) -> None:
    """Sum, count and every bucket are those of observing one by one, edges included."""
    gathered, single = (Histogram("x", "x", registry=CollectorRegistry(), buckets=_BOUNDS) for _ in range(2))
    distribution = Distribution(gathered)
    for amount in amounts:
        distribution.observe(amount)
        single.observe(amount)
    flush_distributions()
    flush_distributions()  # nothing is counted twice
    for ours, theirs in zip(_samples(gathered), _samples(single), strict=True):
        assert ours[:2] == theirs[:2]
        assert abs(ours[2] - theirs[2]) < 1e-6 * max(1.0, theirs[2])


def _samples(histogram: Histogram) -> list[tuple[str, str, float]]:
    return [
        (s.name, str(s.labels), s.value)
        for m in histogram.collect()
        for s in m.samples
        if not s.name.endswith("_created")
    ]
