"""The measurements, figures and words of the finding ``associative-capacity``."""
