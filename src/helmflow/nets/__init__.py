"""Neural networks that condition bijectors."""
