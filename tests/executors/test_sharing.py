"""Who may have how many of the workers, and whom a study's needs leave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.errors import ExecutorError
from automl.executors import sharing
from automl.executors.leases import connect
from automl.executors.needs import checked, met, routes
from automl.executors.sharing import Claim, share
from automl.executors.valkey import Server

GPU = {"queue": "gpu", "device": "gpu 0 (H200)", "memory": str(139 * 2**30)}
CPU = {"queue": "cpu,gpu", "device": "cpu", "memory": str(16 * 10**9)}


def workers(count: int, fields: dict[str, str] = CPU) -> dict[str, dict[str, str]]:
    return {f"w{n}": fields for n in range(count)}


def claim(study: str, **more: object) -> Claim:
    return Claim(study, ("cpu",), **more)  # type: ignore[arg-type]


def test_a_study_alone_has_every_worker() -> None:
    assert share(claim("a"), [claim("a")], workers(7)) == 7


def test_two_hungry_studies_halve_the_workers_and_priorities_weigh() -> None:
    assert share(claim("a"), [claim("b", out=100)], workers(8)) == 4
    assert share(claim("a", priority=3), [claim("b")], workers(8)) == 6
    assert share(claim("b"), [claim("a", priority=3)], workers(8)) == 2


def test_what_a_study_does_not_use_goes_to_the_others() -> None:
    # b has 1 order out and wants no more: 8 - 1 are left.
    assert share(claim("a"), [claim("b", out=1, hungry=False)], workers(8)) == pytest.approx(7)
    # c wants no more, but has more than its third: it keeps that, the rest is halved.
    others = [claim("b"), claim("c", out=9, hungry=False)]
    assert share(claim("a"), others, workers(9)) == pytest.approx(3)


def test_a_worker_that_one_study_alone_fits_is_its_own() -> None:
    both = {"c0": CPU, "g0": GPU, "g1": GPU}
    narrow = Claim("narrow", ("gpu",), ("gpu",))
    wide = Claim("wide", ("gpu",))
    assert share(narrow, [wide], both) == 1  # half of each GPU
    assert share(wide, [narrow], both) == 2  # and the CPU worker


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(0, 9), st.booleans()), min_size=1, max_size=6
    ),
    st.integers(1, 12),
)
def test_shares_of_hungry_studies_fill_the_workers_and_no_more(
    wanted: list[tuple[int, int, bool]], count: int
) -> None:
    claims = [claim(f"s{n}", priority=p, out=out, hungry=h) for n, (p, out, h) in enumerate(wanted)]
    hungry = [c for c in claims if c.hungry]
    given_ = sum(share(c, claims, workers(count)) for c in hungry)
    weight = sum(c.priority for c in claims)
    left = sum(min(c.out, count * c.priority / weight) for c in claims if not c.hungry)
    if hungry:
        assert given_ == pytest.approx(count - left)


@pytest.mark.parametrize(
    ("needs", "worker", "expected"),
    [
        ((), CPU, True),
        (("gpu",), CPU, False),
        (("gpu",), GPU, True),
        (("memory=16g",), CPU, True),
        (("memory=16.1gb",), CPU, False),
        (("gpu", "memory=80g"), GPU, True),
        (("gpu", "memory=1t"), GPU, False),
        (("memory=1m",), {"queue": "cpu"}, False),  # a worker that does not say
    ],
)
def test_needs_are_met_by_what_a_worker_says(
    needs: tuple[str, ...], worker: dict[str, str], expected: bool
) -> None:
    assert met(checked(needs), worker) is expected


def test_orders_with_the_same_needs_share_a_queue() -> None:
    assert routes(["gpu", "cpu"], ()) == ["gpu", "cpu"]
    assert routes(["gpu"], checked(["memory=40g", "GPU"])) == routes(
        ["gpu"], checked(["gpu", "memory=40g", "gpu"])
    )


@pytest.mark.parametrize("text", ["gpus", "memory", "memory=", "memory=40", "memory=-1g"])
def test_a_need_that_nobody_tells_of_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ExecutorError, match=r"give gpu, or memory=40g$"):
        checked([text])


def test_claims_are_heard_until_they_are_withdrawn(broker: Server) -> None:
    client = connect(broker.url)
    mine = Claim("here-1", ("gpu", "cpu"), ("gpu",), 2, 3, False)
    sharing.announce(client, mine)
    assert mine in sharing.claims(client)
    sharing.withdraw(client, "here-1")
    assert mine not in sharing.claims(client)
    client.close()
