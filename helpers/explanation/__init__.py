"""Heat maps, and measures of whether they deserve trust."""
