"""One app's signals: declarations, connections, and what its sends need of Flask."""
