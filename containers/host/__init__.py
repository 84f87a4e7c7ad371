"""What runs on a host of the demo, as the package ``host`` of its image."""
