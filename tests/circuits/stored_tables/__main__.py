"""``python -m tests.circuits.stored_tables [FINDING ...]``: store the tables of findings on the tiny model."""

import os
import sys

os.environ["WORKBENCH_CACHE"] = "off"

if __name__ == "__main__":
    from tests.circuits.stored_tables import finding_of, store
    from workbench.errors import WorkbenchError
    from workbench.registry import FINDINGS
    from workbench.testing import check_finding

    for name in sys.argv[1:] or FINDINGS.names():
        try:
            check_finding(name)
        except (AssertionError, WorkbenchError) as problems:
            sys.exit(str(problems))  # nothing is stored of a finding that lacks something
        files = store(finding_of(name))
        print(f"{name}: {len(files)} files in {files[0].parent}")
