"""What several stages ask of the catalog and the source.

A function belongs here once a second stage needs it, so that no stage imports another (ADR 13).
"""
