"""Ladders and idle times, made up by hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from policies.ladder import Depth, Ladder, Rung

AMOUNTS = st.one_of(
    st.integers(0, 4).map(float),  # ties, and prices of 0
    st.floats(0, 1e4, allow_nan=False).map(lambda value: round(value, 3)),
)
LAMBDAS = st.sampled_from([0.0, 1.0, 100.0, 1000.0])
IDLE_S = st.one_of(
    st.integers(1, 10).map(float), st.floats(0.001, 1e6, allow_nan=False, allow_infinity=False)
)


@st.composite
def ladders(draw: st.DrawFn, *, at_once: bool = False) -> Ladder:
    """AWAKE and up to four rungs below, that draw less or as much. `at_once`: none settles."""
    rests = draw(st.lists(st.sampled_from(list(Depth)[1:]), min_size=1, max_size=4, unique=True))
    powers_w = sorted((draw(AMOUNTS) for _ in range(len(rests) + 1)), reverse=True)
    return (
        Rung(depth=Depth.AWAKE, power_w=powers_w[0]),
        *(
            Rung(
                depth=depth,
                power_w=power_w,
                enter_s=0.0 if at_once else draw(st.sampled_from([0.0, 0.5, 3.0, 60.0])),
                enter_j=draw(AMOUNTS),
                wake_s=draw(AMOUNTS),
                wake_j=draw(AMOUNTS),
            )
            for depth, power_w in zip(sorted(rests), powers_w[1:], strict=True)
        ),
    )


def two_rungs(break_even_s: float = 180.0, power_w: float = 40.0) -> Ladder:
    """AWAKE and OFF, with all of the price at the wake, which takes 10 s."""
    return (
        Rung(depth=Depth.AWAKE, power_w=power_w),
        Rung(depth=Depth.OFF, power_w=0.0, wake_s=10.0, wake_j=break_even_s * power_w),
    )
