"""Models that are asked for over HTTP, against a server of the tests' own."""
