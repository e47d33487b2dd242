"""Serving: an auction decides whose advertisement a page shows, and who pays."""
