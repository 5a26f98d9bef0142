"""How an extra is installed beside the twil that runs: from its clone, or by the packages that it brings."""

from __future__ import annotations

import json
import re


def install_command(extra: str) -> str:
    """Give the command that installs an extra.

    In a clone it is the clone's own. Elsewhere it names the packages that the extra brings: twil is not asked
    for by its name, under which an index may hold something else.
    """
    from importlib import metadata  # which takes as long as all the rest of a start

    # Beside what was installed there may be what a build left in the current folder, which knows no origin.
    found = list(metadata.distributions(name="twil"))
    told = [text for one in found if (text := one.read_text("direct_url.json"))]
    origin = json.loads(told[0]) if told else {}
    needed = (found[0].requires if found else None) or []
    if "dir_info" in origin:
        editable = "-e " if origin["dir_info"].get("editable") else ""
        return f"pip install -c constraints.txt {editable}'.[{extra}]' in the clone"
    packages = [
        f"'{requirement.partition(';')[0].strip()}'"
        for requirement in needed
        if re.search(rf"""extra == ['"]{re.escape(extra)}['"]""", requirement)
    ]
    return f"pip install {' '.join(packages)}" if packages else f"install twil with the extra '{extra}'"
