"""HTML reports from plain numbers: one self-contained file each, drawn without a browser.

`page` builds the document, `charts` the drawings from the elements in `svg`, `formats` writes
numbers; all are pure string building and know nothing of models or data.
"""
