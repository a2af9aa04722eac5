"""What has the model been doing? Captured predictions in, a table, figures and a page out."""
