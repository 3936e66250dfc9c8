"""What several stages ask of the catalog and the source."""
