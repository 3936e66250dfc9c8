"""Measuring detection: planted edits, labelled folders, other methods on the same pictures."""
