"""S3 as the stores and the logs use it. Belongs here: calls, transfers, what an answer means. Never here: what a key means."""
