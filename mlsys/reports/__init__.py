"""HTML reports from plain numbers: one self-contained file each, drawn without a browser.

`page` builds the document, `charts` the drawings; both are pure string building and know
nothing of models or data.
"""
