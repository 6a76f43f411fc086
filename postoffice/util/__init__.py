"""Small mechanisms, each written once."""
