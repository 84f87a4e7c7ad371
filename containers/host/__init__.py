"""What runs on a host of the demo; nothing here is imported."""
