"""PAPER: nouns in, documents out; pure, without network or Prefect."""
