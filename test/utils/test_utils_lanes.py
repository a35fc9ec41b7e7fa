"""Side by side: the same results in the same order, one thread of torch for each, and nobody else's threads changed."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import torch

from funasr.utils.lanes import side_by_side

TIMEOUT_S = 60.0


@pytest.fixture(autouse=True)
def three_threads(threads_as_before: None) -> None:
    torch.set_num_threads(3)


def test_items_are_worked_on_at_the_same_time_and_results_are_in_order() -> None:
    together = threading.Barrier(3)

    def work(item: int) -> tuple[int, int, str]:
        if item < 3:
            together.wait(TIMEOUT_S)  # passes only if three are here
        return item * item, torch.get_num_threads(), threading.current_thread().name

    made = side_by_side(work, range(10))
    assert [square for square, _, _ in made] == [item * item for item in range(10)]
    assert {threads for _, threads, _ in made} == {1}
    assert threading.current_thread().name not in {name for _, _, name in made}


def test_the_threads_of_others_stay_as_they_are() -> None:
    side_by_side(lambda item: item, range(3))
    assert torch.get_num_threads() == 3
    seen: list[int] = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert seen == [3]


@pytest.mark.parametrize(("threads", "items"), [(3, 2), (3, 0), (1, 5)])
def test_few_items_get_all_threads_one_after_another(threads: int, items: int) -> None:
    torch.set_num_threads(threads)
    here = threading.current_thread()
    made = side_by_side(lambda item: (torch.get_num_threads(), threading.current_thread() is here), range(items))
    assert made == [(threads, True)] * items


def test_work_within_work_stays_in_its_thread() -> None:
    def inner(_: int) -> str:
        return threading.current_thread().name

    made = side_by_side(lambda item: (threading.current_thread().name, side_by_side(inner, range(4))), range(3))
    assert all(names == [name] * 4 for name, names in made)


def test_the_first_error_is_raised_when_nothing_is_at_work_any_more() -> None:
    running = threading.Semaphore(0)
    ended: list[int] = []

    def work(item: int) -> int:
        if item == 1:
            running.acquire(timeout=TIMEOUT_S)  # not before item 2 is at work
            raise ValueError("item 1")
        if item == 2:
            running.release()
            threading.Event().wait(0.1)
            ended.append(item)
        return item

    with pytest.raises(ValueError, match="item 1"):
        side_by_side(work, range(3))
    assert ended == [2]
    assert side_by_side(lambda item: item, range(4)) == [0, 1, 2, 3]  # the threads are there for the next work


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    side_by_side(lambda item: item, range(3))
    child = os.fork()
    if child == 0:
        signal.alarm(int(TIMEOUT_S))  # rather than wait for ever
        made = side_by_side(lambda item: item + 1, range(3))
        os._exit(0 if made == [1, 2, 3] else 1)
    assert os.waitpid(child, 0)[1] == 0
