"""How the scripts write their JSON files."""

import json
import re


def write_json(path, record):
    """Writes indented JSON with lists of numbers on one line each."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    flat = re.sub(r"\[[\s\d,]+\]", lambda m: " ".join(m[0].split()).replace("[ ", "[").replace(" ]", "]"), text)
    path.write_text(flat + "\n", encoding="utf-8")
