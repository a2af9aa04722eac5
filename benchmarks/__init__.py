"""How fast, how large and how dear Loading Bay is, each figure beside a named baseline of the same run."""
