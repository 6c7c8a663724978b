"""What people look at: the progress of a run, and the page that shows its result."""
