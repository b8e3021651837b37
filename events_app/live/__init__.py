"""Live streams: one reader of the event table per web process, any number of listeners.

From below: `rows` reads the table, `filters` says who hears what, `encoding` says how it looks on the wire,
`sockets` writes it, `bell` listens to Redis, `hub` joins these, `doors` answers HTTP.
"""
