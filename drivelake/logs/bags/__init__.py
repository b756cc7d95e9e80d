"""ROS bags: version 2 of ROS 1, and the SQLite storage of ROS 2. Belongs here: everything that knows these containers.

Never here: what a message says (drivelake.logs.messages), MCAP.
"""
