"""The embedded world: a miniature in which the method can be measured in minutes."""
