"""The page of `latentdiff ui`: a service without a browser, and its layout in gradio (extra ``ui``)."""
