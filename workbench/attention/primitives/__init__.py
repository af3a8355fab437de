"""What operators are made of, each written once."""
