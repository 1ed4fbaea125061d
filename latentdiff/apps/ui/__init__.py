"""The page of `latentdiff ui`: what it does, as functions that know nothing of a browser, and its layout in
gradio (extra ``ui``).
"""
