"""The evidence room: signed statements about asset versions, the log that orders them, and the policy that judges them.

``keys`` sign and verify; ``policy`` says who may state what; ``statements`` are made, signed and opened; ``log`` keeps
them in order. Never here: making the bytes that the statements speak of, and any network or database.
"""
