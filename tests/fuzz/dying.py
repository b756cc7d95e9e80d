"""A reader process that dies at one case and hangs at another, for the tests of the run; it imports no reader, to start fast."""

import os
import signal
import sys
import time

from drivelake.logs import worker

DIES_AT, HANGS_AT = 30, 40


def cases(corpus, seed, first, count, threads):
    """As ``reader.cases``."""
    if first <= DIES_AT < first + count:
        os.kill(os.getpid(), signal.SIGSEGV)
    if first <= HANGS_AT < first + count:
        time.sleep(60)
    return {"broken": [], "kinds": {".x flip": count}}


def serve():
    """Serve requests."""
    worker.main(sys.argv[1:], {"cases": cases})
