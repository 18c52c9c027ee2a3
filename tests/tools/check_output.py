"""Fail unless every page of _toc.yml was built, and the chapters measured what is kept of them.

An empty build can look like a good one.
"""

from __future__ import annotations

import sys

from book_pages import HTML, page_path, table_of_contents
from measured import VERDICTS, compare

missing = [name for name in table_of_contents() if not page_path(name).is_file()]
missing += [] if (HTML / "index.html").is_file() else ["index"]
if missing:
    sys.exit(f"not built: {', '.join(missing)}")
if found := compare(VERDICTS):
    print("\n".join(found))
    sys.exit("the chapters did not measure what is kept of them: see tests/tools/measured.py")
