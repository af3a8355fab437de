"""Notes on heads: tags and a text for each head, one file on the user's disk for each model."""
