"""Parts of the benchmark of the streams: a crowd of listeners, a publisher, the servers."""
