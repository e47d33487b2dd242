"""How receivers get emissions: after the commit."""
