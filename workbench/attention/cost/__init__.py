"""What attention costs: passes over the keys, tiles visited, FLOPs, bytes moved, state, and measured time and memory.

`report` prints all of it for one operator; `forms` says what an operator of each form computes, `passes` counts passes
over the keys, `tiles` the tiles that a neighbourhood visits, `traffic` bytes, and `measure` runs it.
"""
