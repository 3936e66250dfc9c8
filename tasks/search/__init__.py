"""Nearest neighbours of many vectors at once. Pure: arrays in, arrays out."""
