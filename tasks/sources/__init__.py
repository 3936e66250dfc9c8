"""Where assets live."""
