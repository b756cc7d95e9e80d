"""MDF files: blocks, records, channels, conversions. Belongs here: everything that knows the format, and asammdf for the rest.

Never here: what frames on a bus mean (drivelake.logs.buses), units, other containers.
"""
