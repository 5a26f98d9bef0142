"""Texts, labels and names of users as a terminal may be given them.

All that the commands show goes through `visible`; what they write to files and as JSON does not.
"""

from __future__ import annotations

import re

# Control characters, what turns the direction of writing, other ends of lines, and halves of characters.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Write out what would steer a terminal in place of being shown: an escape becomes ``\x1b``."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
