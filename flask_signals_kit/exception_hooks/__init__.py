"""Exception hooks: they are called once for every failure that leaves the app's code."""
