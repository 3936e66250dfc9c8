"""The gate: an HTTP service for checks and uploads, and the signed pages that decide on plans."""
