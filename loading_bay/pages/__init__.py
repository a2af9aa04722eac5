"""One look for every report: theme, page, drawings, pictures, shares with their intervals."""
