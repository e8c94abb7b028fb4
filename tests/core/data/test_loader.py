"""`DataLoader`: batches, order, resuming, threads, errors."""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plugrad.data as pd
from plugrad.data.loader import to_tensors
from plugrad.errors import ArgumentError, CheckpointError, DataError, DeviceError, DTypeError, ShapeError


def numbers(n):
    return pd.ArrayDataset(np.arange(n))


def loader(dataset, *args, **options):
    return pd.DataLoader(dataset, *args, as_tensors=False, **options)


def listed(batches):
    return [x.tolist() for (x,) in batches]


def prefetchers():
    return [t for t in threading.enumerate() if t.name == "plugrad-prefetch"]


def ended(threads):
    """Whether the threads have ended; the limit only keeps a failing test from hanging."""
    for thread in threads:
        thread.join(timeout=30)
    return not any(t.is_alive() for t in threads)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    assert ended(prefetchers())
    yield
    gc.collect()
    assert ended(prefetchers())


@pytest.fixture(params=[0, 1, 2, 100])
def prefetch(request):
    return request.param


def test_batches_in_order(prefetch):
    batches = loader(numbers(7), 3, prefetch=prefetch)
    assert len(batches) == 3
    for _ in range(2):
        assert listed(batches) == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(loader(numbers(7), 3, drop_last=True)) == 2
    assert listed(loader(numbers(7), 3, drop_last=True, prefetch=prefetch)) == [[0, 1, 2], [3, 4, 5]]


def test_sizes_at_the_edges(prefetch):
    assert listed(loader(numbers(3), 10, prefetch=prefetch)) == [[0, 1, 2]]
    assert listed(loader(numbers(6), 3, prefetch=prefetch)) == [[0, 1, 2], [3, 4, 5]]
    assert listed(loader(numbers(6), 3, drop_last=True, prefetch=prefetch)) == [[0, 1, 2], [3, 4, 5]]
    for drop_last in (False, True):
        empty = loader(numbers(0), 3, drop_last=drop_last, shuffle=True, prefetch=prefetch)
        assert len(empty) == 0
        assert list(empty) == []
        assert empty.epoch == 1


def test_dicts_and_lists():
    batch = next(iter(loader(pd.ArrayDataset({"x": [1.5, 2.5]}))))
    assert batch["x"].tolist() == [1.5, 2.5]
    x, y = next(iter(loader([(1.0, 2), (3.0, 4)])))
    assert (x.dtype, y.dtype) == (np.float32, np.int64)


def test_shuffle_is_a_function_of_seed_and_epoch(prefetch):
    first = loader(numbers(50), 8, shuffle=True, seed=3, prefetch=prefetch)
    epochs = [listed(first) for _ in range(3)]
    assert all(sorted(x for batch in e for x in batch) == list(range(50)) for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    second = loader(numbers(50), 8, shuffle=True, seed=3, prefetch=2)
    np.random.default_rng(0).random()
    assert [listed(second) for _ in range(3)] == epochs
    assert listed(loader(numbers(50), 8, shuffle=True, seed=4)) != epochs[0]
    assert listed(loader(numbers(10), 10, shuffle=True)) == [[0, 2, 9, 1, 8, 5, 4, 3, 6, 7]]  # for good


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(0, 30),
    size=st.integers(1, 12),
    shuffle=st.booleans(),
    stop=st.integers(0, 40),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
)
def test_resuming_gives_exactly_the_batches_that_would_have_come(n, size, shuffle, stop, before, after):
    def make(prefetch, seed):
        return loader(numbers(n), size, shuffle, seed=seed, prefetch=prefetch)

    whole = make(0, 5)
    expected = [b for _ in range(3) for b in listed(whole)]
    stopped = make(before, 5)
    seen = []
    with contextlib.suppress(StopIteration):
        while len(seen) < stop and stopped.epoch < 3:
            for (x,) in stopped:
                seen.append(x.tolist())
                if len(seen) == stop:
                    raise StopIteration
    state = json.loads(json.dumps(stopped.state_dict()))
    resumed = make(after, 99)  # the seed is part of the state
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    while resumed.epoch < 3:
        seen += listed(resumed)
    assert seen == expected


def test_the_position_is_the_consumers():
    made = []
    ready = threading.Event()

    def note(x):
        made.append(len(made))
        if len(made) == 3:
            ready.set()
        return (x,)

    batches = loader(numbers(10).map(note, batched=True), 1, prefetch=2)
    iterator = iter(batches)
    assert (batches.epoch, batches.batch) == (0, 0)
    next(iterator)
    assert ready.wait(30)
    assert (batches.epoch, batches.batch) == (0, 1)
    iterator.close()
    assert len(made) == 3  # one given, two ahead


def test_the_end_of_an_epoch():
    batches = loader(numbers(4), 2, shuffle=True)
    expected = [listed(loader_) for loader_ in [loader(numbers(4), 2, shuffle=True)] for _ in range(2)]
    iterator = iter(batches)
    next(iterator)
    next(iterator)
    at_last_batch = batches.state_dict()
    assert (at_last_batch["epoch"], at_last_batch["batch"]) == (0, 2)
    assert next(iterator, None) is None
    assert (batches.epoch, batches.batch) == (1, 0)
    batches.load_state_dict(at_last_batch)
    assert listed(batches) == []  # the loop body was done, what follows the loop was not
    assert batches.epoch == 1
    assert listed(batches) == expected[1]


def test_a_loop_left_early_ends_its_epoch():
    batches = loader(numbers(6), 2, shuffle=True)
    epochs = loader(numbers(6), 2, shuffle=True)
    expected = [listed(epochs) for _ in range(3)]
    iter(batches)  # gives nothing, moves nothing
    assert next(iter(batches))[0].tolist() == expected[0][0]
    state = batches.state_dict()
    assert next(iter(batches))[0].tolist() == expected[1][0]
    assert listed(batches) == expected[2]
    batches.load_state_dict(state)
    iter(batches)
    assert listed(batches) == expected[0][1:]


def test_two_iterators_at_once():
    batches = loader(numbers(6), 2, shuffle=True)
    old, new = iter(batches), iter(batches)
    a, b = next(old)[0], next(new)[0]
    assert np.array_equal(a, b)
    assert batches.batch == 1
    assert len(list(old)) == 2
    assert (batches.epoch, batches.batch) == (0, 1)
    assert len(list(new)) == 2
    assert (batches.epoch, batches.batch) == (1, 0)


def test_loading_leaves_older_iterators_without_the_position():
    batches = loader(numbers(6), 2)
    iterator = iter(batches)
    next(iterator)
    state = batches.state_dict()
    batches.load_state_dict(state)
    assert len(list(iterator)) == 2
    assert batches.state_dict() == state


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"batch_size": 3}, "batch_size 3, here 2"),
        ({"length": 7}, "length 7, here 6"),
        ({"shuffle": True}, "shuffle True, here False"),
        ({"drop_last": True}, "drop_last True, here False"),
        ({"batch": 4}, "batch 4 of 3"),
        ({"batch": -1}, "batch: got -1"),
        ({"epoch": "1"}, "epoch: got '1'"),
        ({"epoch": True}, "epoch: got True"),
        ({"seed": 2**64}, "seed: got"),
        ({"more": 1}, "more"),
    ],
)
def test_states_that_are_refused(change, text):
    batches = loader(numbers(6), 2)
    next(iter(batches))
    before = batches.state_dict()
    with pytest.raises(CheckpointError, match=text):
        batches.load_state_dict({**before, **change})
    assert batches.state_dict() == before


@pytest.mark.parametrize("state", [None, {}, [], {"epoch": 0}])
def test_states_of_another_form_are_refused(state):
    with pytest.raises(CheckpointError, match="takes"):
        loader(numbers(6), 2).load_state_dict(state)


def test_collate(prefetch):
    batches = loader(numbers(5), 2, collate=lambda examples: [int(e[0]) for e in examples], prefetch=prefetch)
    assert list(batches) == [[0, 1], [2, 3], [4]]


def test_augmenting_depends_on_seed_epoch_and_batch_alone(prefetch):
    def noise(x, *, rng):
        return x, rng.random(3)

    def run(**options):
        batches = loader(numbers(6), 2, augment=noise, **options)
        return [[r.tolist() for _, r in batches] for _ in range(2)]

    first = run(seed=1, prefetch=prefetch)
    assert first == run(seed=1)
    assert first != run(seed=2)
    assert len({tuple(r) for epoch in first for r in epoch}) == 6
    batches = loader(numbers(6), 2, augment=noise, seed=1, prefetch=prefetch)
    next(iter(batches))
    batches.load_state_dict(batches.state_dict())
    assert [r.tolist() for _, r in batches] == first[0][1:]


def test_augmenting_dicts():
    batches = loader(
        pd.ArrayDataset({"x": np.zeros(4)}), augment=lambda e, rng: {"x": e["x"] + rng.random(4)}
    )
    assert next(iter(batches))["x"].all()


def test_an_error_comes_after_the_batches_before_it(prefetch):
    def broken(x):
        if x.max() >= 4:
            raise KeyError("no such file")
        return (x,)

    batches = loader(numbers(8).map(broken, batched=True), 2, prefetch=prefetch)
    iterator = iter(batches)
    seen = [next(iterator), next(iterator)]
    with pytest.raises(DataError, match=r"batch 2 of epoch 0 raised KeyError: 'no such file'") as caught:
        next(iterator)
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.traceback[-1].name == "_host_batches"
    assert len(seen) == 2
    assert (batches.epoch, batches.batch) == (0, 2)
    assert next(iterator, None) is None  # it is over, and not another epoch
    assert (batches.epoch, batches.batch) == (0, 2)
    assert ended(prefetchers())


def test_errors_of_collate_augment_and_stop_iteration(prefetch):
    def stop(*args, **options):
        raise StopIteration

    for options in ({"collate": stop}, {"augment": stop}):
        with pytest.raises(DataError, match="StopIteration"):
            list(loader(numbers(3), prefetch=prefetch, **options))
    with pytest.raises(DataError, match=r"ShapeError.*\(1,\) and \(2,\)") as caught:
        list(loader([np.zeros(1), np.zeros(2)], prefetch=prefetch))
    assert isinstance(caught.value.__cause__, ShapeError)


def test_exits_pass_unchanged(prefetch):
    def leave(x):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        list(loader(numbers(3).map(leave), prefetch=prefetch))


def test_an_error_is_freed_without_the_cycle_collector(prefetch):
    class Big:
        pass

    refs = []

    def note(x):
        big = Big()
        refs.append(weakref.ref(big))
        if x.max() >= 2:
            raise ValueError("broken")
        return (x, big)

    gc.collect()
    gc.disable()
    try:
        iterator = iter(loader(numbers(4).map(note, batched=True), 1, prefetch=prefetch))
        for _ in range(2):
            next(iterator)
        with contextlib.suppress(DataError):
            next(iterator)
        assert ended(prefetchers())
        assert [r() for r in refs] == [None] * 3
    finally:
        gc.enable()


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_dropped_iterator_ends_its_thread(taken):
    gc.disable()
    try:
        iterator = iter(loader(numbers(1000), 2))
        for _ in range(taken):
            next(iterator)
        threads = prefetchers()
        assert len(threads) == 1
        del iterator
        assert ended(threads)
    finally:
        gc.enable()


def test_leaving_the_loop_ends_the_thread():
    batches = loader(numbers(1000), 2)
    for _ in batches:
        threads = prefetchers()
        assert len(threads) == 1
        break
    assert ended(threads)


def test_an_iterator_in_a_cycle_ends_its_thread():
    cycle = [iter(loader(numbers(1000), 2))]
    cycle.append(cycle)
    threads = prefetchers()
    del cycle
    gc.collect()
    assert ended(threads)


def test_close():
    batches = loader(numbers(1000), 2)
    iterator = iter(batches)
    next(iterator)
    iterator.close()
    assert prefetchers() == []
    assert list(iterator) == []
    iterator.close()
    assert (batches.epoch, batches.batch) == (0, 1)
    without = iter(loader(numbers(1000), 2, prefetch=0))
    next(without)
    without.close()
    assert list(without) == []


def test_a_finished_iterator_has_no_thread():
    iterator = iter(loader(numbers(10), 2))
    assert len(list(iterator)) == 5
    assert prefetchers() == []
    assert list(iterator) == []


def test_no_more_than_prefetch_batches_are_ahead():
    made = []

    def note(x):
        made.append(1)
        return (x,)

    for taken, _ in enumerate(loader(numbers(40).map(note, batched=True), 1, prefetch=3), 1):
        assert len(made) <= taken + 3


def test_batches_are_made_in_the_callers_context():
    seen = []

    def note(x):
        seen.append((np.geterr()["divide"], threading.current_thread().name))
        return (x,)

    with np.errstate(divide="raise"):
        list(loader(numbers(1).map(note, batched=True)))
    assert seen == [("raise", "plugrad-prefetch")]


def test_an_interrupt_ends_the_iterator_and_the_thread():
    """While the consumer waits for a batch that does not come until it is interrupted."""
    interrupted = threading.Event()

    def wait(x):
        if x[0] == 1:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            assert interrupted.wait(30)
        return (x,)

    batches = loader(numbers(4).map(wait, batched=True), 1, prefetch=1)
    iterator = iter(batches)
    seen = [next(iterator)[0].tolist()]
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(iterator)
    finally:
        signal.signal(signal.SIGINT, previous)
        interrupted.set()
    assert list(iterator) == []
    batches.load_state_dict(batches.state_dict())
    seen += [x.tolist() for (x,) in loader_from(batches)]
    assert seen == [[0], [1], [2], [3]]


def loader_from(batches):
    """The same position over a dataset that does not wait."""
    plain = loader(numbers(4), 1)
    plain.load_state_dict(batches.state_dict())
    return plain


def test_the_interpreter_ends_with_an_iterator_alive():
    code = (
        "import numpy as np, plugrad.data as pd\n"
        "it = iter(pd.DataLoader(pd.ArrayDataset(np.zeros((1000, 100))), 2, as_tensors=False))\n"
        "next(it); print('done')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_tensors_on_a_device(prefetch):
    data = pd.ArrayDataset(np.zeros((5, 3)), np.zeros(5, np.float32), np.arange(5))
    shapes = []
    for x, y, n in pd.DataLoader(data, 2, device="null", prefetch=prefetch):
        assert [t.dtype.name for t in (x, y, n)] == ["float64", "float32", "int64"]
        assert {str(t.device) for t in (x, y, n)} == {"null:0"}
        shapes.append((x.shape, y.shape, n.shape))
    assert shapes == [((2, 3), (2,), (2,))] * 2 + [((1, 3), (1,), (1,))]


def test_to_tensors_keeps_the_structure():
    out = to_tensors({"a": [np.zeros(2), (np.int64(1), "name", None)]}, "null")
    assert out["a"][0].shape == (2,)
    assert out["a"][1][0].shape == ()
    assert out["a"][1][1:] == ("name", None)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"batch_size": 0}, ArgumentError, "batch_size: got 0, takes an integer of at least 1"),
        ({"batch_size": -1}, ArgumentError, "batch_size: got -1"),
        ({"batch_size": 2.0}, ArgumentError, "batch_size: got 2.0"),
        ({"batch_size": True}, ArgumentError, "batch_size: got True"),
        ({"prefetch": -1}, ArgumentError, "prefetch: got -1"),
        ({"prefetch": None}, ArgumentError, "prefetch: got None"),
        ({"seed": -1}, ArgumentError, "seed: got -1"),
        ({"seed": 0.5}, ArgumentError, "seed: got 0.5"),
        ({"batch_size": 7, "drop_last": True}, ArgumentError, "leaves no batch of 6"),
        ({"device": "no such device"}, DeviceError, "no such device"),
        ({"device": "nowhere"}, DeviceError, "nowhere"),
    ],
)
def test_options_that_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        loader(numbers(6), **options)


def test_data_that_is_refused():
    with pytest.raises(DTypeError, match="DataLoader: got a tuple"):
        loader((np.zeros(3), np.zeros(3)))
    with pytest.raises(DTypeError, match="DataLoader: got int"):
        loader(3)
