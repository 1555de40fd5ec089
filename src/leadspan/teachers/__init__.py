"""Where the teacher's rows come from: the live model, or a cache written once."""
