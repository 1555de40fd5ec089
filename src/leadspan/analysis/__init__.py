"""What traces and cuts are worth, before anything is trained."""
