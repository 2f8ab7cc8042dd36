"""The pages of the documentation, tested: their fences run, their links lead somewhere, they leave nothing out."""
