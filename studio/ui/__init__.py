"""Components, events, charts and style that all pages share."""
