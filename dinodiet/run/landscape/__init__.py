"""mode=landscape: losses and scores on the plane through three parameter vectors of a method."""
