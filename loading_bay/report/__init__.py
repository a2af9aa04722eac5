"""Reports on the model: turns captured predictions into a table, figures and a page."""
