"""Commands that edit, restore or compose images: sdedit, p2p, inpaint, restore, denoise, invert, anagram,
hybrid.
"""
