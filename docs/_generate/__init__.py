"""What the documentation site is made with; none of it is part of the site."""
