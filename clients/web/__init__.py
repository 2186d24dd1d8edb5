"""The web page: `clients.SpeechSeparator` and `clients.CrowdCounter` in a browser, through Gradio."""
