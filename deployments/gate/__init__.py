"""The gate: signed pages on which reviewers decide about merge plans."""
