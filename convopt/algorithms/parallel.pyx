"""How many threads a call uses.

Order of the default: CONVOPT_NUM_THREADS, then OMP_NUM_THREADS, then the cores this process may use (affinity and
cgroup quota). ``threadpoolctl.threadpool_limits`` lowers it, because it lowers OpenMP's own limit.
"""

import os
import warnings

cdef extern from "omp.h" nogil:
    int omp_get_max_threads()
    int omp_in_parallel()

# The most threads anyone may ask for.
MAX_THREADS = 1024

cdef int openmp_initial = omp_get_max_threads()
cdef int default_threads = 1
# libgomp's threads do not survive a fork, and a region entered in the child would wait for them for ever.
cdef bint pool_started = False
cdef bint pool_lost = False
cdef bint forked = False


cdef int thread_limit(int wanted) noexcept nogil:
    """Threads to use now: `wanted` if positive, else the default under OpenMP's current limit; 1 where threads cannot run."""
    global pool_started
    cdef int limit
    if pool_lost or omp_in_parallel():
        return 1
    if wanted <= 0:
        wanted = default_threads
        limit = omp_get_max_threads()
        if limit != openmp_initial and limit < wanted:
            wanted = limit
    if wanted > 1:
        pool_started = True
    return wanted


def current(wanted=None):
    """Threads a call would use now when asked for `wanted` (None: the default)."""
    return thread_limit(0 if wanted is None else wanted)


def can_time():
    """Whether timings taken here would mean something: not in a parallel region, nor in a forked child beside its siblings."""
    return not (forked or omp_in_parallel())


def set_default(int threads):
    """Set the default; returns the one before."""
    global default_threads
    before = default_threads
    default_threads = threads
    return before


def usable_cores():
    """Cores this process may use: its affinity mask, under the cgroup's CPU quota rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return cores if quota is None else max(1, min(cores, int(-(-quota // 1))))


def cgroup_quota():
    """Cores' worth of time that the cgroup allows; None without a limit."""
    for quota_of in (_cgroup2_quota, _cgroup1_quota):
        try:
            quota = quota_of()
        except (OSError, ValueError):
            continue
        if quota is not None:
            return quota
    return None


def _cgroup2_quota():
    with open("/sys/fs/cgroup/cpu.max") as file:
        quota, period = file.read().split()
    return None if quota == "max" else int(quota) / int(period)


def _cgroup1_quota():
    with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as file:
        quota = int(file.read())
    with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as file:
        period = int(file.read())
    return None if quota <= 0 else quota / period


def _initial_default():
    for name in ("CONVOPT_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0].strip()
        if text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_THREADS:
            return int(text)
        if text and name.startswith("CONVOPT"):
            warnings.warn(f"{name} is {text!r}; expected a number from 1 to {MAX_THREADS}; ignored", RuntimeWarning, stacklevel=2)
    return usable_cores()


def _after_fork_in_child():
    global pool_lost, forked
    pool_lost, forked = pool_started, True


set_default(_initial_default())
os.register_at_fork(after_in_child=_after_fork_in_child)
