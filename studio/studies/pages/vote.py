"""Vote: the rater's page. Its behaviour is in vote.js beside this file, which speaks to studio.studies.http.

No part of a study passes through Gradio here: its config, events and file cache never hold a pair.
"""

from __future__ import annotations

import gradio as gr

from studio.studies.http import PLACE, asset

TITLE, PATH = "Vote", "/vote"
MODEL_BAR = False  # what the machine renders now is no business of a rater
NAVIGATION = False  # nor are the pages of the studio


def build() -> None:
    """Lay out the page inside the current Blocks."""
    gr.HTML(
        html_template=f"<style>{asset('vote.css')}</style>{PLACE}",
        js_on_load=asset("vote.js"),
        apply_default_css=False,
        elem_id="vote",
    )
