"""Bytes to pixels to vectors."""
