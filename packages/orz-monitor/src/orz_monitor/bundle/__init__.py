"""What maintainers ask for, in one archive, with secrets left out."""
