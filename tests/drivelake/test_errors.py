"""The error tree is what its docstring draws, and exit codes are inherited."""

import re

from drivelake import errors


def test_the_docstring_draws_the_tree_and_its_exit_codes():
    drawn = re.findall(r"^\s+[|`\- ]*(\w+)\s+(\d)\s", errors.__doc__, re.MULTILINE)
    assert {name for name, _ in drawn} == set(errors.__all__)
    assert all(getattr(errors, name).exit_code == int(code) for name, code in drawn)


def test_a_message_ends_with_the_next_step():
    error = errors.EmptyDrive("Drive 'a' holds 0 logs.", next_step="put its logs there")
    assert str(error) == "Drive 'a' holds 0 logs. Next: put its logs there"
