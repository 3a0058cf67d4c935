"""Step 8: a bundle answers requests over HTTP (`serving`) and predicts files (`batch`).

A request goes straight down: `front` looks at its headers, `asgi` takes it from HTTP, `bodies` reads it, `requests` and
`tensors` parse its form, `service` validates,
predicts and logs its rows (`log_writer`, `prediction_log`), `responses` gives the answer its form. `online` and
`gateway` run this on Ray Serve, `openapi` documents it, `replay` sends stored rows to it.
"""
