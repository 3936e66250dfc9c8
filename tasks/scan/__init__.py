"""The stages of one scan, one plain verb each."""
