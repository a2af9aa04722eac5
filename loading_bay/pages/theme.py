"""The colours of every report, in light and in dark."""

# CSS variable → its values in light and in dark. Matplotlib draws with the light value, which the variable then
# replaces, so the values must differ from each other.
PALETTE = {
    "ink": ("#1b2330", "#e9edf3"),
    "muted": ("#596575", "#a3afbf"),
    "grid": ("#dde3ea", "#333d4a"),
    "alarm": ("#b3261e", "#ff8f85"),
    "class-0": ("#1f6cb0", "#74b8f2"),
    "class-1": ("#c4561b", "#f79c63"),
    "class-2": ("#15825a", "#62d2a4"),
    "class-3": ("#8449ab", "#cb9fec"),
    "class-4": ("#8f6d00", "#e3c14f"),
    "class-5": ("#ab3068", "#f290b8"),
    "routed": ("#2b8554", "#5cc98d"),
    "review": ("#d98e04", "#f2bd4b"),
    "rejected": ("#7d70c9", "#a99df0"),
    "failed": ("#c22f48", "#f4768a"),
    "claimed": ("#8c98a5", "#7f8b99"),
}
LIGHT, DARK = ({name: pair[k] for name, pair in PALETTE.items()} for k in (0, 1))
CLASS_COLOURS = 6


def colour(name: str) -> str:
    """Return the colour to draw with; the page replaces it with that of the theme."""
    return LIGHT[name]


def class_colour(k: int) -> str:
    """Return the colour of the class with index `k`."""
    return colour(f"class-{k % CLASS_COLOURS}")
