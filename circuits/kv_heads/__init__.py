"""What a finding about key/value heads measures: their errors as memories, their roles, and tests against the other
heads of their layer."""
