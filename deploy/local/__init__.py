"""`bin/up`: everything on one machine, below one directory, under one supervisor."""
