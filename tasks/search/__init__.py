"""Nearest neighbours of vectors: pure."""
