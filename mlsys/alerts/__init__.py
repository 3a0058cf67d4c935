"""Alerts about a model: sent once while they last to the places that its recipe names, and again when they are over.

===================  =============================================================
`alert_book`         the alerts of a model: what lasts, what was sent, what is muted
`alert_messages`     an alert in words, and as the body that each place takes
`alert_transports`   send a message: HTTP, e-mail, a file, a command
`alert_delivery`     bring the book up to date and send what is due
===================  =============================================================
"""
