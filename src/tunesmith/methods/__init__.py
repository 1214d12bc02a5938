"""Which numbers are trained: the methods, and the files they are kept in."""
