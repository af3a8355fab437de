"""Head scores: what every head of a model does, one number at a time, each beside its chance level."""
