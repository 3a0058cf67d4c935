"""Step 8: a bundle answers, over HTTP and over files."""
