"""The embedded cloud and hosts: for trying, developing and testing without an account."""
