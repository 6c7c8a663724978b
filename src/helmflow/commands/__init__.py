"""Commands of ``helmflow`` that do not fit into one file."""
