"""The data stream: one process that takes requests to the services that run, and queued analyses too."""
