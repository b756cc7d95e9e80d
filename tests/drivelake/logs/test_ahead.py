import threading
import time

import pytest

from drivelake.logs.ahead import AHEAD_BYTES, AHEAD_JOBS, in_order


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_results_come_in_the_order_of_the_jobs(threads):
    def work(job):
        time.sleep(0.002 * (job % 3))
        return job * job

    assert list(in_order(range(20), work, weight=lambda _: 1, threads=threads)) == [(job, job * job) for job in range(20)]


def test_the_look_ahead_is_bounded_by_number_and_by_bytes():
    for weight, ahead_max in ((1, 2 * AHEAD_JOBS), (AHEAD_BYTES, 1)):
        asked = []

        def jobs(asked=asked):
            for job in range(10):
                asked.append(job)
                yield job

        for job, _ in in_order(jobs(), lambda job: job, weight=lambda _, weight=weight: weight, threads=2):
            assert len(asked) - job <= ahead_max + 1


def test_a_caller_that_stops_leaves_no_thread_behind():
    before = threading.active_count()
    results = in_order(range(100), lambda job: job, weight=lambda _: 1, threads=3)
    next(results)
    results.close()
    assert threading.active_count() == before
