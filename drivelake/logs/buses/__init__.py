"""Frames of vehicle buses (CAN, CAN FD, LIN) as tables of messages. Belongs here: databases, bits of signals, J1939.

Never here: the file that frames came from.
"""
