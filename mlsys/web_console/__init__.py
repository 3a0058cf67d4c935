"""The console: a store seen in a browser, as pages and as JSON.

``facts_*`` modules read the store and give plain JSON values, the pages draw those values with `mlsys.reports`, and
`mlsys.web_console.routes` serves both. Nothing here changes anything, except `mlsys.web_console.acts`, which runs a
verb of the command line for whoever shows an API key with the scope ``admin``.
"""
