"""From a release to a fleet that serves it."""
