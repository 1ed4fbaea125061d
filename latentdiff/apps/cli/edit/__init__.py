"""Commands that edit and compose images: sdedit, p2p, inpaint, restore, denoise, invert, anagram, hybrid."""
