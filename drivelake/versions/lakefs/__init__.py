"""Versions on a lakeFS server. Belongs here: everything that only this backend has, and the rules that a repository gets.

Never here: the interface, or anything that the embedded store needs too.

``store`` puts it together; ``calls`` asks the server, ``errors`` is the one table of what its answers mean.
"""
