"""The limits of a request to the page."""

from __future__ import annotations

IMAGES = 16  # at once
STEPS = 1000
USUAL_STEPS = 100  # of the scale on the page; a sampler that visits every level gets all of them
GUIDANCE = 20.0
PROMPT = 500  # characters
SIDE = 4096  # pixels of an uploaded image
UPLOAD = 8 * 2**20  # bytes of a file
BODY = 2**20  # bytes of any other request
WAITING = 8  # drawings in the queue; one is drawn at a time
FRAMES = 16  # moments shown of a drawing
HISTORY = 64  # pictures in the gallery of a session
KEPT = 500  # drawings whose files stay on the server
MODELS = 3  # kept in memory


def describe() -> str:
    """The limits as one line of the page."""
    return (
        f"At most {IMAGES} images at once, {USUAL_STEPS} steps ({STEPS} of ddpm), prompts of {PROMPT}"
        f" characters, uploads of {UPLOAD // 2**20} MB and {SIDE} pixels a side. One drawing is made"
        f" at a time; {WAITING} may wait."
    )
