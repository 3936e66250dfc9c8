"""WHERE things run: deployments, the command line, the local stack."""
