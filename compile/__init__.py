"""SoC toolchains: one adapter a target, with quantisation and parity. Belongs here: from a checkpoint to a binary and its proof.

Never here: an orchestrator, publishing, gates, training. Import as ``from compile.targets import compile_target``;
``import compile`` alone would hide the builtin of that name.
"""
