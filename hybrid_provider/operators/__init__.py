"""The operators: arguments in, one call into the core, a small typed dict out."""
