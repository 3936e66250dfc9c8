"""What we know: the LanceDB catalog."""
