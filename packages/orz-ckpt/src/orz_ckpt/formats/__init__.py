"""Files that somebody else wrote, parsed: each module knows one format, trusts none of it, and judges nothing."""
