"""Text conditioning: tokenizer, frozen encoder, and their files."""
