"""`backward`: errors, what is kept, where gradients go, threads, and memory, on the null device."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import plugrad as pg
from plugrad.autograd import checkpoint, custom_vjp, engine
from plugrad.dispatch.data import wrap
from plugrad.dispatch.record import Function, Slot, counter
from plugrad.errors import GradientError
from plugrad.modes import detect_anomaly, no_grad


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def leaf(*shape: int) -> pg.Tensor:
    return pg.ones(shape).requires_grad_()


def given_grad(x: pg.Tensor) -> pg.Tensor:
    assert x.grad is not None
    return x.grad


# -- errors -----------------------------------------------------------------------------------------------


def test_what_is_not_recorded_cannot_go_backward() -> None:
    with pytest.raises(GradientError, match=r"not recorded; nothing .* requires_grad=True"):
        pg.ones(()).backward()


def test_several_elements_need_a_cotangent() -> None:
    with pytest.raises(GradientError, match=r"shape \(2, 3\) needs the gradient argument"):
        (leaf(2, 3) * 2.0).backward()


@pytest.mark.parametrize(
    ("gradient", "got"),
    [
        (lambda: pg.ones((3, 2)), r"Spec\(\(3, 2\), float32"),
        (lambda: pg.ones((2, 3), dtype="float64"), r"Spec\(\(2, 3\), float64"),
        (lambda: 1.0, "float"),
    ],
)
def test_the_cotangent_has_the_spec_of_the_tensor(gradient: Callable[[], Any], got: str) -> None:
    with pytest.raises(GradientError, match=rf"takes a tensor like this one, Spec\(\(2, 3\), .*got {got}"):
        (leaf(2, 3) * 2.0).backward(gradient())


def test_inputs_are_leaves() -> None:
    x = leaf(2)
    y = x * 2.0
    for wrong in (y, pg.ones(2), 3):
        with pytest.raises(GradientError, match="inputs takes leaves that require a gradient"):
            pg.sum(y).backward(inputs=[wrong])  # type: ignore[list-item]


def test_twice_is_an_error_that_names_the_op_and_the_fix() -> None:
    x = leaf(2)
    y = pg.sum(pg.exp(x))
    y.backward()
    with pytest.raises(GradientError, match=r"backward through \w+: .* freed .*retain_graph=True"):
        y.backward()


def test_twice_through_a_function_is_an_error_that_names_it() -> None:
    y = leaf().clone()
    y.backward()
    with pytest.raises(GradientError, match="backward through alias a second time: pass retain_graph=True"):
        y.backward()


def test_a_shared_part_is_freed_too() -> None:
    h = pg.exp(leaf(2))
    pg.sum(h * 2.0).backward()
    with pytest.raises(GradientError, match="freed"):
        pg.sum(h * 3.0).backward()


def test_a_failed_backward_leaves_grad_as_it_was() -> None:
    x, z = leaf(2), leaf(2)
    h = pg.exp(x)
    pg.sum(h).backward()
    before = given_grad(x)
    with pytest.raises(GradientError, match="freed"):
        pg.sum(h * z).backward()
    assert given_grad(x) is before
    assert z.grad is None


# -- what is kept, where gradients go ---------------------------------------------------------------------


def test_retained_it_can_be_repeated() -> None:
    x = leaf(2)
    y = pg.sum(pg.exp(x))
    y.backward(retain_graph=True)
    y.backward()
    assert given_grad(x).shape == (2,)


def test_created_it_is_recorded() -> None:
    x = leaf(2)
    pg.sum(pg.exp(x)).backward(create_graph=True)
    assert given_grad(x).requires_grad
    pg.sum(given_grad(x)).backward()


def test_not_created_it_is_not() -> None:
    x = leaf(2)
    for _ in range(2):
        pg.sum(pg.exp(x)).backward()
    assert not given_grad(x).requires_grad


def test_inputs_alone_are_served() -> None:
    x, y = leaf(2), leaf(2)
    pg.sum(pg.exp(x) * y).backward(inputs=[y])
    assert x.grad is None
    assert given_grad(y).shape == (2,)


def test_under_no_grad() -> None:
    x = leaf(2)
    y = pg.sum(pg.exp(x))
    with no_grad():
        y.backward(create_graph=True)
    assert given_grad(x).requires_grad
    with no_grad():
        z = pg.exp(x)
    assert not z.requires_grad


def test_of_a_leaf_itself() -> None:
    x = leaf()
    x.backward()
    assert given_grad(x).shape == ()


def test_every_grad_is_a_tensor_of_its_own() -> None:
    x, y = leaf(2), leaf(2)
    ct = pg.ones(2)
    (x + y).backward(ct)
    cells = [given_grad(x), given_grad(y), ct]
    assert len({id(c) for c in cells}) == 3
    x.grad = ct
    assert given_grad(x) is not ct


def test_grads_accumulate_into_a_new_tensor() -> None:
    x = leaf(2)
    pg.sum(x).backward()
    first = given_grad(x)
    pg.sum(x).backward()
    assert given_grad(x) is not first


def test_only_a_leaf_has_a_grad() -> None:
    y = leaf(2) * 2.0
    assert y.grad is None
    with pytest.raises(GradientError, match="only a leaf"):
        y.grad = pg.ones(2)
    x = leaf(2)
    with pytest.raises(GradientError, match=r"grad: takes a tensor like this one"):
        x.grad = pg.ones(3)
    x.grad = pg.ones(2)
    x.grad = None
    assert x.grad is None


def test_a_walk_does_not_enter_what_was_made_before_it_began() -> None:
    x = leaf(2)
    early = pg.exp(x)
    since = next(counter)
    late = early * x
    assert late._node is not None
    assert early._node is not None
    assert x._node is not None
    assert engine.leading_to([late._node], [x._node], 0) == {x._node, early._node, late._node}
    assert engine.leading_to([late._node], [x._node], since) == {x._node, late._node}
    assert engine.entries([late._node], since) == [x._node, early._node]
    found = engine.run([(late._node, pg.ones(2))], [x._node], since=since)
    assert list(found) == [x._node]
    # What was made before is as it was.
    pg.sum(early).backward()


# -- threads ----------------------------------------------------------------------------------------------


def in_threads(count: int, body: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with pg.backend.use_device("null"):
                body()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors


def test_threads_go_backward_through_their_own_graphs() -> None:
    def body() -> None:
        for _ in range(20):
            x = leaf(3)
            y = x
            for _ in range(20):
                y = pg.exp(y) * x
            pg.sum(y).backward()
            assert given_grad(x).shape == (3,)
            with no_grad():
                assert not (x * 2.0).requires_grad

    in_threads(4, body)


# -- memory -----------------------------------------------------------------------------------------------

LENGTH = 100_000


def _two_results(x: pg.Tensor) -> pg.Tensor:
    node = Function("two", (x._node,), (x.spec, x.spec), lambda cts, create: [cts[0] + cts[1]])
    return wrap(x._array, x.spec, Slot(node, 1))


def _customised() -> Callable[[pg.Tensor], pg.Tensor]:
    f = custom_vjp(lambda x: x)
    f.defvjp(lambda x: (x * 2.0, x), lambda x, ct: (ct * 2.0,))
    return f


LINKS: dict[str, Callable[[pg.Tensor], pg.Tensor]] = {
    "multiply": lambda x: x * 2.0,
    "add to itself": lambda x: x + x,
    "list of operands": lambda x: pg.concat([x]),
    "several results": _two_results,
    "clone": lambda x: x.clone(),
    "custom_vjp": _customised(),
}


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.usefixtures("without_collector")
def test_a_long_chain_goes_backward_and_is_dropped(link: str) -> None:
    x = leaf(3)
    y = x
    for _ in range(LENGTH):
        y = LINKS[link](y)
    first = y._node
    y.backward(pg.ones(3))
    assert given_grad(x).shape == (3,)
    alive = weakref.ref(first)
    del first, y
    assert alive() is None


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.usefixtures("without_collector")
def test_a_long_chain_is_dropped_without_a_backward(link: str) -> None:
    x = leaf(3)
    y = LINKS[link](x)
    nodes = [weakref.ref(y._node)]
    for _ in range(LENGTH):
        y = LINKS[link](y)
    nodes.append(weakref.ref(y._node))
    del y
    assert [n() for n in nodes] == [None, None]


@pytest.mark.usefixtures("without_collector")
def test_a_long_chain_is_dropped_in_a_thread_with_a_small_stack() -> None:
    def body() -> None:
        y = leaf(3)
        for _ in range(LENGTH):
            y = LINKS["multiply"](y)
        del y

    # Python 3.13 itself frees up to 10,000 objects deep before it puts the rest off.
    size = threading.stack_size(2 * 1024 * 1024)
    try:
        in_threads(1, body)
    finally:
        threading.stack_size(size)


@pytest.mark.usefixtures("without_collector")
def test_backward_frees_the_record_as_it_passes() -> None:
    x = leaf(3)
    y = x
    nodes: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def count(cts: Any, create: bool) -> Any:
        alive.append(sum(n() is not None for n in nodes))
        return [cts[0]]

    for _ in range(5):
        y = pg.exp(y)
        nodes.append(weakref.ref(y._node))
        y = wrap(y._array, y.spec, Function("count", (y._node,), (y.spec,), count))
    end = pg.sum(y)
    del y
    end.backward()
    assert alive == [5, 4, 3, 2, 1]
    assert not any(n() for n in nodes)


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.usefixtures("without_collector")
def test_a_graph_is_gone_with_its_last_tensor(create: bool) -> None:
    x = leaf(2, 3)
    y = pg.sum(pg.exp(x) @ pg.permute_dims(x, (1, 0)))
    assert y._node is not None
    node, start = weakref.ref(y._node), weakref.ref(x._node)
    found = engine.run([(y._node, pg.ones(()))], [x._node], create=create, retain=True)  # type: ignore[list-item]
    del y, x
    found.clear()
    assert node() is None
    assert start() is None


@pytest.mark.usefixtures("without_collector")
def test_a_dropped_checkpoint_is_gone() -> None:
    x = leaf(3)
    inner: list[weakref.ref[Any]] = []

    def part(x: pg.Tensor) -> pg.Tensor:
        h = pg.exp(x)
        inner.append(weakref.ref(h._node))
        return h * h

    y = checkpoint(part, x)
    assert inner[0]() is None
    node = weakref.ref(y._node)
    pg.sum(y).backward()
    assert len(inner) == 2
    assert inner[1]() is None
    del y
    assert node() is None


def test_nodes_remember_lines_only_under_detect_anomaly() -> None:
    x = leaf(2)
    with detect_anomaly():
        y = pg.exp(x)
    assert y._node is not None
    assert "test_backward.py" in y._node.line  # type: ignore[attr-defined]
    assert not hasattr(pg.exp(x)._node, "line")
