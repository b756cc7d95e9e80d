"""Messages of middlewares as Arrow columns: ROS 1, ROS 2, protobuf, JSON, flatbuffers. Belongs here: schemas and layouts.

Never here: the container that carries a message, when it was logged, what becomes of its table.
"""
