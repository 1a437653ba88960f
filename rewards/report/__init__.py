"""A label set's report, and what it is made of."""
