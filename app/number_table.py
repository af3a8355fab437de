"""Tables of numbers as pages show them: sorted and downloaded as numbers, written as in figures."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from workbench.io.tables import printed


def in_print(frame: pd.DataFrame, spec: str = ".3g") -> Any:
    """The table for `st.dataframe`, its real numbers as `printed` has them, and ``None`` where there is none.

    Streamlit's own number formats have a hyphen for a minus.
    """
    return frame.style.format(partial(printed, spec=spec), na_rep="None", subset=list(frame.select_dtypes("floating")))
