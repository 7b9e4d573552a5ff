"""The table of readers' scores: one long CSV, one row per reader, case, arm, parameter and reading.

| column | holds |
|---|---|
| reader | name of the reader, never a person's own |
| case | name of the case |
| arm | original or sN2N |
| parameter | name in ``data_manifest/readers/`` |
| score | whole number from 1 to 5, 5 is best |
| reading_order | place of the case in the reader's session, from 1; empty if unknown |
| time | when it was scored, ISO 8601; empty if unknown |
| reading | 1, or 2 where the case was read again (may be missing: 1) |
| source | human or synthetic, one of them in the whole file (may be missing: human) |
"""

COLUMNS = ("reader", "case", "arm", "parameter", "score", "reading_order", "time")
OPTIONAL_COLUMNS = ("reading", "source")
SOURCES = ("human", "synthetic")
