"""Studies of text conditioning and prompt-to-prompt."""
