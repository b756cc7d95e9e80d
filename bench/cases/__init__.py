"""Every case of the bench, in the order of the table. Belongs here: the list. Never here: a case."""

from bench.cases import bags, buses, cores, mcap, mdf, sync, versions

__all__ = ["CASES"]

CASES = (*mdf.CASES, *buses.CASES, *mcap.CASES, *bags.CASES, *sync.CASES, *cores.CASES, *versions.CASES)
