"""The demo: its data, what it builds, its tour of searches, and the page that shows them."""
