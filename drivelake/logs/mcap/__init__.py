"""MCAP files: records, chunks, indexes. Belongs here: everything that knows the container.

Never here: what a message says (drivelake.logs.messages), other containers.
"""
