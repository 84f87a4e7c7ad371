"""How one target takes a release."""
