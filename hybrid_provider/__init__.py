"""Train in the cloud exactly once, bring the model on-premises, and put it live on a fleet of hosts.

This module imports nothing, so that Airflow can read the version and the provider's metadata for free.
"""

__version__ = "0.1.0"
