"""The app in the browser (Gradio): photographs or a video in, a scene to turn and download out."""
