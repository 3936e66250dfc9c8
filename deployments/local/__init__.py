"""For one's own machine: the local stack (S3, Prefect, mail) and the demo that runs on it."""
