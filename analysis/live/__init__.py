"""The live page: follows runs from their files."""
