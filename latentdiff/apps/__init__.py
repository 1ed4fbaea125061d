"""Applications: they may import every room, and no room imports them."""
