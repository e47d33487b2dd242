"""What works with optional dependencies other than SQLAlchemy; imported only if it is used."""
