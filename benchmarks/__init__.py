"""Measures speed, size and cost of Loading Bay, each figure beside a named baseline from the same run."""
