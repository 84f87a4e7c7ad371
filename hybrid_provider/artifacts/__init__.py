"""From an artifact in cloud storage to a verified release on disk."""
