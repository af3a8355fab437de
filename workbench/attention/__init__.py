"""Attention operators, kernels, and statistics of patterns."""
