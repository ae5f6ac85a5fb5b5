"""A page and an HTTP API for trained runs: `avpea serve`, which needs the extra `serve`; this imports nothing."""
