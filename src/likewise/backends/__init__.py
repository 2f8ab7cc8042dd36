"""The databases that speak our words, one folder each; they do not know each other. ``likewise.connect`` chooses by the URL."""
