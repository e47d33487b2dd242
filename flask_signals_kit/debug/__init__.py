"""The report on an app's signals: the page and the terminal show it and compute nothing."""
