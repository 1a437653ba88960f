"""One local web page on a robot whose nodes are up: what it sees, wants, may do and has learned, and a stop button."""
