"""What the page lets its visitors ask for: every limit, in one place."""

from __future__ import annotations

IMAGES = 16  # at once
STEPS = 1000
GUIDANCE = 20.0
PROMPT = 500  # characters
SIDE = 4096  # pixels of an uploaded image
UPLOAD = 8 * 2**20  # bytes of a file
BODY = 2**20  # bytes of any other request
WAITING = 8  # drawings in the queue; one is drawn at a time
FRAMES = 16  # moments shown of a drawing
HISTORY = 64  # pictures in a visitor's gallery
KEPT = 500  # drawings whose files stay on the server
MODELS = 3  # in memory


def told() -> str:
    """The limits in one line for the page."""
    return (
        f"At most {IMAGES} images at once, {STEPS} steps, prompts of {PROMPT} characters, uploads of"
        f" {UPLOAD // 2**20} MB and {SIDE} pixels a side. One drawing is made at a time; {WAITING} may wait."
    )
