"""How the page looks: the fonts of the reader's system, so that none is fetched, and small images with their
pixels to be seen.
"""

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO = ["ui-monospace", "Consolas", "monospace"]
CSS = """
.pixels img { image-rendering: pixelated; }
.pair { flex-wrap: nowrap !important; }
.pair .image-container { padding-top: 2rem; }
.quiet p { font-size: var(--text-sm); opacity: 0.8; }
#gallery .grid-wrap { min-height: 0; max-height: none; }
#gallery .grid-container { grid-template-columns: repeat(auto-fill, minmax(92px, 1fr)) !important; }
"""
