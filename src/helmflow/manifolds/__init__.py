"""Where configurations live."""
