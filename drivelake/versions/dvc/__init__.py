"""Versions without a server: DVC's object database beside a bare git repository, on disk or on a bucket.

Belongs here: everything that only this backend has. Never here: the interface, or anything that lakeFS needs too.

``embedded`` puts it together: ``objects`` (``intake``, ``listings``) keep the bytes, ``graph`` (``gitobjects``, ``refs``,
``merging``, ``paths``) the commits, ``gitbucket`` both on a bucket; ``collection`` keeps publishers and the collector apart.
"""
