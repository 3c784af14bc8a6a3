"""The Gradio studio. Importing any module of it creates no file, no server and no page."""
