"""Domain signals for Flask that you can see, trust and test."""
