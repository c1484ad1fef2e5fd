"""Readers of files that somebody else wrote: each module knows one format, and trusts none of it."""
