"""What a store is worth: its measures, what is wrong in it, what it is good for. One subject a file."""
